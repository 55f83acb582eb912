// Sends back what it hears; a greeting first.
#include "board.h"

int main(void) {
    board_init();
    board_serial_write("hello\r\n", 7);
    for (;;) {
        char heard[64];
        uint32_t count = 0;
        for (int byte; count < sizeof heard && (byte = board_serial_read()) >= 0;) heard[count++] = (char)byte;
        if (count)
            board_serial_write(heard, count);
        else
            board_idle();
    }
}
