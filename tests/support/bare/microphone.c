// Two seconds from the microphone into memory; then what the clocks say about a busy tenth of a second.
#include "board.h"
#include "nrf52840.h"
#include "results.h"
#include "startup.h"

int16_t heard[32000];

int main(void) {
    board_init();
    const char *trouble = board_mic_start();
    result(trouble != 0);
    for (uint32_t count = 0; !trouble && count < 32000;) {
        uint32_t came = board_mic_read(heard + count, 32000 - count);
        count += came;
        if (!came) board_idle();
    }
    result(board_mic_dropped());
    if (!trouble) board_mic_stop();
    for (uint32_t start = board_millis(); board_millis() == start;) {
    }
    uint32_t ms = board_millis(), cycles = board_cycles();
    while (board_millis() - ms < 100) {
    }
    result(board_cycles() - cycles);
    result(board_stack_high_water_bytes());
    result(board_flash_bytes());
    result(board_static_ram_bytes());
    board_led(255, 0, 255);
    finish();
}
