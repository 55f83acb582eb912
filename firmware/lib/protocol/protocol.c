#include "protocol.h"

#include <stddef.h>
#include <string.h>

#define MAX_WORDS 5
#define ECHO_CHARACTERS 32

static const protocol_app *app;

// The command being gathered.
static char command[PROTOCOL_LINE_BYTES + 1];
static uint32_t command_count;
static uint8_t command_overlong;

// What has been loaded. `expected` is 0 while no load is under way.
typedef struct {
    uint32_t expected, count;
    uint32_t complete;  // how much a finished load holds, 0 when none
    uint32_t crc32;
} load;
static load input_load;  // bytes
static load pcm_load;    // samples
static uint8_t has_output;

void protocol_start(const protocol_app *given) {
    app = given;
    command_count = 0;
    command_overlong = 0;
    has_output = 0;
    memset(&input_load, 0, sizeof input_load);
    memset(&pcm_load, 0, sizeof pcm_load);
    reply_begin(app->write);
    reply_text("m-timestamp-mode-performance");
    reply_line();
    reply_text("m-lap-us-");
    reply_u64(app->micros());
    reply_line();
    reply_text("m-init-done");
    reply_line();
    reply_ready();
}

static void lap(void) {
    reply_text("m-lap-us-");
    reply_u64(app->micros());
    reply_line();
}

static void counted(const char *before, uint32_t value, const char *after) {
    reply_text(before);
    reply_u64(value);
    reply_text(after);
    reply_line();
}

// Each command gets the words behind its name and how many there are.
typedef void (*command_function)(char **words, int count);

static void run_name(char **words, int count) {
    (void)words, (void)count;
    reply_text("m-name-dut-[");
    reply_clean(app->name, 64);
    reply_text("]");
    reply_line();
}

static void run_timestamp(char **words, int count) {
    (void)words, (void)count;
    lap();
}

static void run_profile(char **words, int count) {
    (void)words, (void)count;
    // The benchmark's runner recognises a device by this exact text.
    reply_text("m-profile-[ULPMark for tinyML Firmware V0.0.1]");
    reply_line();
    reply_text("m-model-[");
    reply_clean(app->model, 32);
    reply_text("]");
    reply_line();
}

static void run_id(char **words, int count) {
    (void)words, (void)count;
    app->identity();
}

static void run_memory(char **words, int count) {
    (void)words, (void)count;
    app->memory();
}

static void db_load(char **words, int count) {
    uint32_t bytes;
    if (count != 1 || !text_u32(words[0], 1, app->input_bytes, &bytes)) {
        counted("e-[db load: the number of bytes must be 1 to ", app->input_bytes, "]");
        return;
    }
    app->release();
    input_load.expected = bytes;
    input_load.count = 0;
    input_load.complete = 0;
    counted("m-[Expecting ", bytes, " bytes]");
}

static void db_print(char **words, int count) {
    const uint32_t held = input_load.expected ? input_load.count : input_load.complete;
    uint32_t offset = 0, bytes;
    if (count > 2 || (count > 1 && !text_u32(words[1], 0, held, &offset))) {
        counted("e-[db print: the offset must be 0 to ", held, "]");
        return;
    }
    bytes = held - offset;
    if (count > 0 && !text_u32(words[0], 0, held - offset, &bytes)) {
        counted("e-[db print: the number of bytes must be 0 to ", held - offset, "]");
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
        counted("e-[db: too many bytes, wanted at most ", room, " more]");
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

static void run_db(char **words, int count) {
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

static int input_missing(void) {
    if (input_load.complete == app->input_bytes) return 0;
    counted("e-[no input: send db load ", app->input_bytes, " and that many bytes first]");
    return 1;
}

static int failed(const char *sentence) {
    if (sentence) reply_error(sentence);
    return sentence != NULL;
}

static void run_results(char **words, int count) {
    (void)words, (void)count;
    if (!has_output) {
        reply_error("results: no inference yet");
        return;
    }
    reply_open("results");
    for (uint32_t i = 0; i < app->output_bytes; i++) {
        reply_field_milli((double)(app->output[i] - app->output_zero_point) * app->output_scale);
    }
    reply_close();
}

static int infer_times(uint32_t times) {
    while (times--) {
        if (failed(app->infer())) return 0;
    }
    return 1;
}

static void run_infer(char **words, int count) {
    uint32_t times = 1, warmup = 10;
    if (count > 0 && !text_u32(words[0], 1, PROTOCOL_MAX_RUNS, &times)) {
        counted("e-[infer: the number of inferences must be 1 to ", PROTOCOL_MAX_RUNS, "]");
        return;
    }
    if (count > 1 && !text_u32(words[1], 0, PROTOCOL_MAX_RUNS, &warmup)) {
        counted("e-[infer: the number of warm-up inferences must be 0 to ", PROTOCOL_MAX_RUNS, "]");
        return;
    }
    if (input_missing()) return;
    app->release();
    has_output = 0;
    counted("m-warmup-start-", warmup, "");
    if (!infer_times(warmup)) return;
    reply_text("m-warmup-done");
    reply_line();
    counted("m-infer-start-", times, "");
    lap();
    if (!infer_times(times)) return;
    lap();
    reply_text("m-infer-done");
    reply_line();
    has_output = 1;
    run_results(NULL, 0);
}

static void run_layers(char **words, int count) {
    (void)words, (void)count;
    if (input_missing()) return;
    app->release();
    has_output = !failed(app->layers());
}

static void run_stop(char **words, int count) {
    (void)words, (void)count;
    app->release();
}

static int no_audio(void) {
    if (app->pcm) return 0;
    reply_error("this model has no front end: load its input with db");
    return 1;
}

static void pcm_start(char **words, int count) {
    uint32_t samples, crc32;
    if (count != 2 || !text_u32(words[0], 1, app->pcm_samples, &samples)) {
        counted("e-[pcm load: wants the number of samples, 1 to ", app->pcm_samples, ", and their CRC-32]");
        return;
    }
    if (!text_hex32(words[1], &crc32)) {
        reply_error("pcm load: the CRC-32 must be 1 to 8 hex digits");
        return;
    }
    app->release();
    pcm_load.expected = samples;
    pcm_load.count = 0;
    pcm_load.complete = 0;
    pcm_load.crc32 = crc32;
    counted("m-[Expecting ", samples, " samples]");
}

// Base64 of little-endian int16 samples into `samples`; how many came, or 0 after an e-[...].
static uint32_t samples_of(const char *text, int16_t *samples, uint32_t room) {
    uint8_t bytes[2 * PROTOCOL_AUDIO_SAMPLES];
    const int32_t count = text_base64_bytes(text, bytes, sizeof bytes);
    if (count <= 0 || count % 2 != 0 || (uint32_t)count / 2 > room) {
        counted("e-[wants base64 of 1 to ", room < PROTOCOL_AUDIO_SAMPLES ? room : PROTOCOL_AUDIO_SAMPLES,
                " samples of 16 bits]");
        return 0;
    }
    for (int32_t i = 0; i < count / 2; i++) {
        samples[i] = (int16_t)(uint16_t)(bytes[2 * i] | bytes[2 * i + 1] << 8);
    }
    return (uint32_t)count / 2;
}

static void pcm_more(const char *text) {
    if (pcm_load.expected == 0) {
        reply_error("pcm: nothing is expected; send pcm load N CRC first");
        return;
    }
    pcm_load.count += samples_of(text, app->pcm + pcm_load.count, pcm_load.expected - pcm_load.count);
    if (pcm_load.count < pcm_load.expected) return;
    const uint32_t crc32 = text_crc32(0, app->pcm, 2 * pcm_load.expected);  // both ends are little-endian
    if (crc32 == pcm_load.crc32) {
        pcm_load.complete = pcm_load.expected;
        reply_text("m-load-done");
        reply_line();
    } else {
        reply_error("pcm: the CRC-32 differs; load again");
    }
    pcm_load.expected = 0;
}

static void run_pcm(char **words, int count) {
    if (no_audio()) return;
    if (count > 0 && strcmp(words[0], "load") == 0) {
        pcm_start(words + 1, count - 1);
    } else if (count != 1) {
        reply_error("pcm: wants load N CRC, or base64 in one piece");
    } else {
        pcm_more(words[0]);
    }
}

static int pcm_missing(void) {
    if (pcm_load.complete) return 0;
    reply_error("no audio: send pcm load N CRC and the samples first");
    return 1;
}

static void run_features(char **words, int count) {
    (void)words, (void)count;
    if (no_audio() || pcm_missing()) return;
    app->release();
    input_load.expected = 0;
    input_load.complete = failed(app->features(pcm_load.complete)) ? 0 : app->input_bytes;
}

static void run_runs(char **words, int count) {
    uint32_t times;
    if (count != 1 || !text_u32(words[0], 1, PROTOCOL_MAX_RUNS, &times)) {
        counted("e-[runs: the number of runs must be 1 to ", PROTOCOL_MAX_RUNS, "]");
        return;
    }
    if (app->pcm ? pcm_missing() : input_missing()) return;
    app->release();
    (void)failed(app->runs(times, pcm_load.complete));
}

static void run_listen(char **words, int count) {
    uint32_t inferences = 0;
    if (no_audio()) return;
    if (count > 0 && !text_u32(words[0], 0, PROTOCOL_MAX_RUNS, &inferences)) {
        counted("e-[listen: the number of inferences must be 0 (until stop) to ", PROTOCOL_MAX_RUNS, "]");
        return;
    }
    app->release();
    (void)failed(app->listen(inferences));
}

static void run_stream(char **words, int count) {
    (void)words, (void)count;
    if (no_audio()) return;
    app->release();
    (void)failed(app->stream());
}

static void run_audio(char **words, int count) {
    int16_t samples[PROTOCOL_AUDIO_SAMPLES];
    if (no_audio()) return;
    if (count != 1) {
        reply_error("audio: wants base64 in one piece");
        return;
    }
    const uint32_t came = samples_of(words[0], samples, PROTOCOL_AUDIO_SAMPLES);
    if (came) (void)failed(app->audio(samples, came));
}

static void run_help(char **words, int count);

static const struct {
    const char *name;
    command_function run;
    int max_words;
    const char *help;
} commands[] = {
    {"name", run_name, 0, "name: of the device"},
    {"timestamp", run_timestamp, 0, "timestamp: microseconds"},
    {"profile", run_profile, 0, "profile: firmware and task, as MLPerf Tiny wants"},
    {"help", run_help, 0, "help: this text"},
    {"db", run_db, 3, "db load N | db HH.. | db print [N] [offset]: the network's input"},
    {"infer", run_infer, 2, "infer [N=1] [W=10]: N inferences after W warm-ups"},
    {"results", run_results, 0, "results: of the last inference"},
    {"id", run_id, 0, "id: spec, model, engine, board, versions"},
    {"memory", run_memory, 0, "memory: flash, RAM, arena, stack"},
    {"layers", run_layers, 0, "layers: one inference, cycles and CRC-32 per layer"},
    {"pcm", run_pcm, 3, "pcm load N CRC | pcm BASE64: audio into the clip buffer"},
    {"features", run_features, 0, "features: of the clip buffer, into the network's input"},
    {"runs", run_runs, 1, "runs N: stage times, one record per run"},
    {"listen", run_listen, 1, "listen [N=0]: microphone, one record per inference"},
    {"stop", run_stop, 0, "stop: ends listening"},
    {"stream", run_stream, 0, "stream: audio will come over the line"},
    {"audio", run_audio, 1, "audio BASE64: up to 320 samples, one record per inference"},
};
#define COMMANDS (sizeof commands / sizeof commands[0])

static void run_help(char **words, int count) {
    (void)words, (void)count;
    for (size_t i = 0; i < COMMANDS; i++) {
        reply_text(commands[i].help);
        reply_line();
    }
}

static void dispatch(char **words, int count) {
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(words[0], commands[i].name) != 0) continue;
        if (count - 1 > commands[i].max_words) {
            reply_text("e-[");
            reply_text(commands[i].name);
            reply_text(": too many words]");
            reply_line();
        } else {
            commands[i].run(words + 1, count - 1);
        }
        return;
    }
    reply_text("e-[Unknown command: ");
    reply_clean(words[0], ECHO_CHARACTERS);
    reply_text("]");
    reply_line();
}

// Cuts the line at spaces, in place; how many words, at most MAX_WORDS (the rest counts as one more).
static int split(char *text, char **words) {
    int count = 0;
    while (*text && count < MAX_WORDS) {
        while (*text == ' ') *text++ = 0;
        if (*text == 0) break;
        words[count++] = text;
        while (*text && *text != ' ') text++;
    }
    return count;
}

void protocol_feed(char c) {
    char *words[MAX_WORDS];
    if (c != '%') {
        if (command_count == 0 && (c == '\r' || c == '\n' || c == ' ' || c == 0)) return;  // between commands
        if (command_count == PROTOCOL_LINE_BYTES) {
            command_overlong = 1;
        } else {
            command[command_count++] = c >= ' ' && c < 127 ? c : '?';  // '?' is part of no command
        }
        return;
    }
    command[command_count] = 0;
    if (command_overlong) {
        counted("e-[a command must be shorter than ", PROTOCOL_LINE_BYTES, " characters]");
    } else {
        const int count = split(command, words);
        if (count) dispatch(words, count);  // nothing at all is answered by m-ready alone
    }
    command_count = 0;
    command_overlong = 0;
    reply_ready();
}
