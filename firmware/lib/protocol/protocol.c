#include "protocol.h"
#include "protocol_load.h"

#include <stddef.h>
#include <string.h>

#define MAX_WORDS (PROTOCOL_MAX_THRESHOLDS + 2)  // a command's name, its words, and one too many
#define ECHO_CHARACTERS 32

static const protocol_app *app;

// The command being gathered.
static char command[PROTOCOL_LINE_BYTES + 1];
static uint32_t command_count;
static uint8_t command_overlong;

static int next_command = -1;  // the first byte of one that came while another ran

static uint8_t has_output;

void protocol_start(const protocol_app *given) {
    app = given;
    command_count = 0;
    command_overlong = 0;
    next_command = -1;
    has_output = 0;
    load_start(given);
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

static int is_blank(char c) { return c == '\r' || c == '\n' || c == ' ' || c == 0; }

int protocol_interrupted(void) {
    while (next_command < 0 && (next_command = app->read()) >= 0) {
        if (is_blank((char)next_command)) next_command = -1;
    }
    return next_command >= 0;
}

static void lap(void) {
    reply_text("m-lap-us-");
    reply_u64(app->micros());
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

static void run_cache(char **words, int count) {
    uint32_t mode;
    if (!count) {
        app->cache_counts();
    } else if (text_u32(words[0], 0, 2, &mode)) {
        app->cache((int)mode);
    } else {
        reply_error("cache: wants 0, 1, 2 or nothing");
    }
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
        if (failed(protocol_interrupted() ? PROTOCOL_ENDED : app->infer())) return 0;
    }
    return 1;
}

static void run_infer(char **words, int count) {
    uint32_t times = 1, warmup = 10;
    if (count > 0 && !text_u32(words[0], 1, PROTOCOL_MAX_RUNS, &times)) {
        reply_counted("e-[infer: the number of inferences must be 1 to ", PROTOCOL_MAX_RUNS, "]");
        return;
    }
    if (count > 1 && !text_u32(words[1], 0, PROTOCOL_MAX_RUNS, &warmup)) {
        reply_counted("e-[infer: the number of warm-up inferences must be 0 to ", PROTOCOL_MAX_RUNS, "]");
        return;
    }
    if (load_input_missing()) return;
    load_take();
    has_output = 0;
    reply_counted("m-warmup-start-", warmup, "");
    if (!infer_times(warmup)) return;
    reply_text("m-warmup-done");
    reply_line();
    reply_counted("m-infer-start-", times, "");
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
    if (load_input_missing()) return;
    load_take();
    has_output = !failed(app->layers());
}

static void run_stop(char **words, int count) {
    (void)words, (void)count;
    load_take();
}

static int no_audio(void) {
    if (app->clip_samples) return 0;
    reply_error("this model has no front end: load its input with db");
    return 1;
}

static void run_pcm(char **words, int count) {
    if (!no_audio()) load_pcm(words, count);
}

static void run_features(char **words, int count) {
    (void)words, (void)count;
    if (!no_audio() && !load_features_missing()) app->features();
}

static int times_of(const char *command, char **words, int count, uint32_t *times) {
    if (count == 1 && text_u32(words[0], 1, PROTOCOL_MAX_RUNS, times)) return 1;
    reply_text("e-[");
    reply_text(command);
    reply_counted(": the number of runs must be 1 to ", PROTOCOL_MAX_RUNS, "]");
    return 0;
}

static void run_windows(char **words, int count) {
    uint32_t times;
    if (no_audio() || !times_of("windows", words, count, &times) || load_pcm_missing()) return;
    load_take();
    (void)failed(app->windows(times));
}

static void run_runs(char **words, int count) {
    uint32_t times;
    if (!times_of("runs", words, count, &times)) return;
    if (app->clip_samples ? load_pcm_missing() : load_input_missing()) return;
    load_take();
    (void)failed(app->runs(times));
}

// Listening goes on, with what is set here.
static void run_detector(char **words, int count) {
    int32_t values[PROTOCOL_MAX_THRESHOLDS];
    uint32_t milli;
    if (no_audio()) return;
    if (count > 0 && strcmp(words[0], "rate") == 0) {
        if (count != 2 || !text_u32(words[1], 0, UINT32_MAX, &milli)) {
            reply_error("detector rate: wants thousandths of a false accept per hour, as in the table");
            return;
        }
        if (failed(app->rate(milli))) return;
    } else if (count > 0) {
        int good = count == (int)app->words;
        for (int i = 0; good && i < count; i++) good = text_i32(words[i], app->max_threshold, &values[i]);
        if (!good) {
            reply_text("e-[detector: wants ");
            reply_u64(app->words);
            reply_counted(" thresholds, 0 to ", (uint32_t)app->max_threshold, " or the negative of that]");
            return;
        }
        app->thresholds(values);
    }
    app->detector(count == 0);
}

// How many records are to come from the microphone, 0 when not said.
static int endless_times_of(const char *what, char **words, int count, uint32_t *times) {
    *times = 0;
    if (count == 0 || text_u32(words[0], 0, PROTOCOL_MAX_RUNS, times)) return 1;
    reply_text("e-[");
    reply_text(what);
    reply_counted(" must be 0 (until stop) to ", PROTOCOL_MAX_RUNS, "]");
    return 0;
}

static void run_listen(char **words, int count) {
    uint32_t inferences;
    if (no_audio() || !endless_times_of("listen: the number of inferences", words, count, &inferences)) return;
    load_take();
    (void)failed(app->listen(inferences));
}

static void run_record(char **words, int count) {
    uint32_t steps;
    if (no_audio() || !endless_times_of("record: the number of steps", words, count, &steps)) return;
    load_take();
    (void)failed(app->record(steps));
}

static void run_stream(char **words, int count) {
    (void)words, (void)count;
    if (no_audio()) return;
    load_take();
    (void)failed(app->stream());
}

static void run_audio(char **words, int count) {
    int16_t samples[PROTOCOL_AUDIO_SAMPLES];
    if (no_audio()) return;
    if (count != 1) {
        reply_error("audio: wants base64 in one piece");
        return;
    }
    const uint32_t came = load_samples(words[0], samples, PROTOCOL_AUDIO_SAMPLES);
    if (came) (void)failed(app->audio(samples, came));
}

static void run_quiet(char **words, int count) {
    static const int16_t zeros[PROTOCOL_AUDIO_SAMPLES];
    uint32_t samples;
    if (no_audio()) return;
    if (count != 1 || !text_u32(words[0], 1, PROTOCOL_MAX_QUIET, &samples)) {
        reply_counted("e-[quiet: the number of samples must be 1 to ", PROTOCOL_MAX_QUIET, "]");
        return;
    }
    while (samples) {
        const uint32_t part = samples < PROTOCOL_AUDIO_SAMPLES ? samples : PROTOCOL_AUDIO_SAMPLES;
        if (failed(protocol_interrupted() ? PROTOCOL_ENDED : app->audio(zeros, part))) return;
        samples -= part;
    }
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
    {"db", load_db, 3, "db load N | db HH.. | db print [N] [offset]: the network's input"},
    {"infer", run_infer, 2, "infer [N=1] [W=10]: N inferences after W warm-ups"},
    {"results", run_results, 0, "results: of the last inference"},
    {"id", run_id, 0, "id: spec, model, engine, board, versions"},
    {"memory", run_memory, 0, "memory: flash, RAM, arena, stack"},
    {"cache", run_cache, 1, "cache 0 | 1 | 2: instruction cache off, on, counted | cache: its hits and misses since"},
    {"layers", run_layers, 0, "layers: one inference, cycles and CRC-32 per layer"},
    {"pcm", run_pcm, 3, "pcm load N CRC | pcm BASE64: a clip, its features become the network's input"},
    {"features", run_features, 0, "features: of the clip"},
    {"windows", run_windows, 1, "windows N: time of a whole window's features, one record per run"},
    {"runs", run_runs, 1, "runs N: stage times, one record per run"},
    {"detector", run_detector, PROTOCOL_MAX_THRESHOLDS,
     "detector [T1 T2 ..] | detector rate R: thresholds per word, or those of R/1000 false accepts per hour"},
    {"listen", run_listen, 1, "listen [N=0]: microphone, one record per inference"},
    {"record", run_record, 1, "record [N=0]: the microphone's samples, one record per step"},
    {"stop", run_stop, 0, "stop: ends listening and recording"},
    {"stream", run_stream, 0, "stream: audio will come over the line"},
    {"audio", run_audio, 1, "audio BASE64: up to 320 samples, one record per inference"},
    {"quiet", run_quiet, 1, "quiet N: as N samples of digital silence"},
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

static void take(char c) {
    char *words[MAX_WORDS];
    if (c != '%') {
        if (command_count == 0 && is_blank(c)) return;
        if (command_count == PROTOCOL_LINE_BYTES) {
            command_overlong = 1;
        } else {
            command[command_count++] = c >= ' ' && c < 127 ? c : '?';  // '?' is part of no command
        }
        return;
    }
    command[command_count] = 0;
    if (command_overlong) {
        reply_counted("e-[a command must be shorter than ", PROTOCOL_LINE_BYTES, " characters]");
    } else {
        const int count = split(command, words);
        if (count) dispatch(words, count);  // nothing at all is answered by m-ready alone
    }
    command_count = 0;
    command_overlong = 0;
    reply_ready();
}

void protocol_feed(char c) {
    take(c);
    if (next_command < 0) return;
    c = (char)next_command;
    next_command = -1;
    take(c);
}
