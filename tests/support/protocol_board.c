// board.h on the test machine, for running the real sketch under sanitizers: the serial line is a TCP port of the
// loopback interface, the microphone a file of raw 16 bit PCM (KWS_MIC), time a counter, so that a session repeats
// exactly.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "board.h"

void setup(void);
void loop(void);

static int server = -1, line = -1;
static uint32_t cycles;
static FILE *microphone;
static uint32_t microphone_lost;
static unsigned char received[4096];
static ssize_t received_count, received_next;

static void answer_the_phone(void) {
    const int one = 1;
    line = accept(server, NULL, NULL);
    if (line < 0) exit(1);
    setsockopt(line, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void hang_up(void) {
    close(line);
    received_count = received_next = 0;
    answer_the_phone();
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

void board_init(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    server = socket(AF_INET, SOCK_STREAM, 0);
    if (server < 0 || bind(server, (struct sockaddr *)&address, sizeof address) || listen(server, 1)) die("listen");
    if (getsockname(server, (struct sockaddr *)&address, &size)) die("getsockname");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    answer_the_phone();
}

const char *board_name(void) { return "native test board"; }
uint32_t board_clock_hz(void) { return 64000000; }
uint32_t board_cycles(void) { return cycles += 640; }
uint32_t board_millis(void) { return (cycles += 640) / 64000; }

void board_instruction_cache(int mode) { (void)mode; }
void board_cache_counts(uint32_t *hits, uint32_t *misses) { *hits = 3, *misses = 1; }

int board_serial_read(void) {
    if (received_next == received_count) {
        struct pollfd waits = {.fd = line, .events = POLLIN};
        if (poll(&waits, 1, 0) <= 0) return -1;
        received_count = recv(line, received, sizeof received, 0);
        received_next = 0;
        if (received_count <= 0) {  // the host closed the port; the board lives on
            hang_up();
            return -1;
        }
    }
    return received[received_next++];
}

void board_serial_write(const char *bytes, uint32_t count) {
    while (count) {
        const ssize_t sent = send(line, bytes, count, MSG_NOSIGNAL);
        if (sent <= 0) {
            hang_up();
            return;
        }
        bytes += sent;
        count -= (uint32_t)sent;
    }
}

const char *board_mic_start(void) {
    const char *file = getenv("KWS_MIC");
    microphone_lost = getenv("KWS_MIC_LOST") ? (uint32_t)atoi(getenv("KWS_MIC_LOST")) : 0;
    microphone = file ? fopen(file, "rb") : NULL;
    return microphone ? NULL : "no microphone";
}

void board_mic_stop(void) {
    if (microphone) fclose(microphone);
    microphone = NULL;
}

uint32_t board_mic_read(int16_t *pcm, uint32_t max_samples) {
    return microphone ? (uint32_t)fread(pcm, sizeof *pcm, max_samples < 100 ? max_samples : 100, microphone) : 0;
}

uint32_t board_mic_dropped(void) { return microphone_lost; }

void board_led(uint8_t red, uint8_t green, uint8_t blue) { (void)red, (void)green, (void)blue; }

void board_idle(void) {
    struct pollfd waits = {.fd = line, .events = POLLIN};
    if (received_next == received_count) poll(&waits, 1, microphone ? 1 : 100);
}

uint32_t board_flash_bytes(void) { return 100000; }
uint32_t board_static_ram_bytes(void) { return 50000; }
uint32_t board_stack_high_water_bytes(void) { return 2000; }

void board_fail(const char *sentence) {
    board_serial_write("e-[", 3);
    board_serial_write(sentence, (uint32_t)strlen(sentence));
    board_serial_write("]\r\nm-ready\r\n", 12);
    exit(1);
}

int main(void) {
    setup();
    for (;;) loop();
}
