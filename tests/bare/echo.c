// Sends back each byte; a line with the clock first.
#include "board.h"

static void put(char letter) { board_serial_write(&letter, 1); }

int main(void) {
    board_init();
    board_serial_write("hello\r\n", 7);
    for (;;) {
        int byte = board_serial_read();
        if (byte >= 0) put((char)byte);
        else board_idle();
    }
}
