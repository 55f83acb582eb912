// What startup.c and the linker script give to the board layer and to test programs.
#ifndef STARTUP_H
#define STARTUP_H

#include <stdint.h>

#define STACK_PAINT 0x5AFE57ACu

void bare_reset(void);
void bare_main(void);
void bare_unhandled(void);
uint32_t bare_stack_high_water(void);  // deepest use of the stack since reset, in bytes

#endif
