#include "protocol_load.h"

#include <string.h>

static const protocol_app *app;

// What has been loaded. `expected` is 0 while no load is under way.
typedef struct {
    uint32_t expected, count;
    uint32_t complete;  // how much a finished load holds, 0 when none
    uint32_t crc32, wanted_crc32;
} load;
static load input_load;        // bytes
static load pcm_load;          // samples
static uint8_t input_is_clip;  // the input holds the features of the last clip

void load_start(const protocol_app *given) {
    app = given;
    memset(&input_load, 0, sizeof input_load);
    memset(&pcm_load, 0, sizeof pcm_load);
    input_is_clip = 0;
}

void load_take(void) {
    app->release();
    pcm_load.expected = 0;
}

static void db_load(char **words, int count) {
    uint32_t bytes;
    if (count != 1 || !text_u32(words[0], 1, app->input_bytes, &bytes)) {
        reply_counted("e-[db load: the number of bytes must be 1 to ", app->input_bytes, "]");
        return;
    }
    load_take();
    input_is_clip = 0;
    input_load.expected = bytes;
    input_load.count = 0;
    input_load.complete = 0;
    reply_counted("m-[Expecting ", bytes, " bytes]");
}

static void db_print(char **words, int count) {
    const uint32_t held = input_load.expected ? input_load.count : input_load.complete;
    uint32_t offset = 0, bytes;
    if (count > 2 || (count > 1 && !text_u32(words[1], 0, held, &offset))) {
        reply_counted("e-[db print: the offset must be 0 to ", held, "]");
        return;
    }
    bytes = held - offset;
    if (count > 0 && !text_u32(words[0], 0, held - offset, &bytes)) {
        reply_counted("e-[db print: the number of bytes must be 0 to ", held - offset, "]");
        return;
    }
    for (uint32_t i = 0; i < bytes; i++) {
        if (i % 8 == 0) reply_text("m-buffer");
        reply_text("-");
        reply_hex_byte((uint8_t)app->input[offset + i]);
        if (i % 8 == 7 || i + 1 == bytes) reply_line();
    }
}

static void db_hex(const char *digits) {
    if (input_load.expected == 0) {
        reply_error("db: nothing is expected; send db load N first");
        return;
    }
    if (strlen(digits) % 2 != 0) {
        reply_error("db: an odd number of hex digits");
        return;
    }
    const uint32_t room = input_load.expected - input_load.count;
    if (strlen(digits) / 2 > room) {
        reply_counted("e-[db: too many bytes, wanted at most ", room, " more]");
        return;
    }
    const int32_t bytes = text_hex_bytes(digits, (uint8_t *)app->input + input_load.count, room);
    if (bytes < 0) {
        reply_error("db: not a hex digit");
        return;
    }
    input_load.count += (uint32_t)bytes;
    if (input_load.count == input_load.expected) {
        input_load.complete = input_load.expected;
        input_load.expected = 0;
        reply_text("m-load-done");
        reply_line();
    }
}

void load_db(char **words, int count) {
    if (count == 0) {
        reply_error("db: wants load N, hex digits or print");
    } else if (strcmp(words[0], "load") == 0) {
        db_load(words + 1, count - 1);
    } else if (strcmp(words[0], "print") == 0) {
        db_print(words + 1, count - 1);
    } else if (count > 1) {
        reply_error("db: hex digits must come in one piece");
    } else {
        db_hex(words[0]);
    }
}

int load_input_missing(void) {
    if (input_load.complete == app->input_bytes) return 0;
    reply_counted("e-[no input: send db load ", app->input_bytes, " and that many bytes first]");
    return 1;
}

static void pcm_start(char **words, int count) {
    uint32_t samples, crc32;
    if (count != 2 || !text_u32(words[0], 1, app->clip_samples, &samples)) {
        reply_counted("e-[pcm load: wants the number of samples, 1 to ", app->clip_samples, ", and their CRC-32]");
        return;
    }
    if (!text_hex32(words[1], &crc32)) {
        reply_error("pcm load: the CRC-32 must be 1 to 8 hex digits");
        return;
    }
    app->release();
    app->clip_begin();
    memset(&input_load, 0, sizeof input_load);
    memset(&pcm_load, 0, sizeof pcm_load);
    input_is_clip = 0;
    pcm_load.expected = samples;
    pcm_load.wanted_crc32 = crc32;
    reply_counted("m-[Expecting ", samples, " samples]");
}

// Base64 of little-endian int16 samples into `samples`; how many came, or 0 after an e-[...].
uint32_t load_samples(const char *text, int16_t *samples, uint32_t room) {
    uint8_t bytes[2 * PROTOCOL_AUDIO_SAMPLES];
    const int32_t count = text_base64_bytes(text, bytes, sizeof bytes);
    if (count <= 0 || count % 2 != 0 || (uint32_t)count / 2 > room) {
        reply_counted("e-[wants base64 of 1 to ", room < PROTOCOL_AUDIO_SAMPLES ? room : PROTOCOL_AUDIO_SAMPLES,
                      " samples of 16 bits]");
        return 0;
    }
    for (int32_t i = 0; i < count / 2; i++) {
        samples[i] = (int16_t)(uint16_t)(bytes[2 * i] | bytes[2 * i + 1] << 8);
    }
    return (uint32_t)count / 2;
}

static void pcm_more(const char *text) {
    int16_t samples[PROTOCOL_AUDIO_SAMPLES];
    if (pcm_load.expected == 0) {
        reply_error("pcm: nothing is expected; send pcm load N CRC first");
        return;
    }
    const uint32_t count = load_samples(text, samples, pcm_load.expected - pcm_load.count);
    if (count == 0) return;
    app->clip_more(samples, count);
    pcm_load.crc32 = text_crc32(pcm_load.crc32, samples, 2 * count);  // both ends are little-endian
    pcm_load.count += count;
    if (pcm_load.count < pcm_load.expected) return;
    if (pcm_load.crc32 == pcm_load.wanted_crc32) {
        app->clip_end();
        pcm_load.complete = pcm_load.expected;
        input_load.complete = app->input_bytes;
        input_is_clip = 1;
        reply_text("m-load-done");
        reply_line();
    } else {
        reply_error("pcm: the CRC-32 differs; load again");
    }
    pcm_load.expected = 0;
}

void load_pcm(char **words, int count) {
    if (count > 0 && strcmp(words[0], "load") == 0) {
        pcm_start(words + 1, count - 1);
    } else if (count != 1) {
        reply_error("pcm: wants load N CRC, or base64 in one piece");
    } else {
        pcm_more(words[0]);
    }
}

int load_pcm_missing(void) {
    if (pcm_load.complete) return 0;
    reply_error("no audio: send pcm load N CRC and the samples first");
    return 1;
}

int load_features_missing(void) {
    if (input_is_clip) return 0;
    reply_error("no features: send pcm load N CRC and the samples first");
    return 1;
}
