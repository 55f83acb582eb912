// What the host loads into the board: the network's input (db) and the clip (pcm). A refused line changes nothing.
#ifndef PROTOCOL_LOAD_H
#define PROTOCOL_LOAD_H

#include "protocol.h"

#ifdef __cplusplus
extern "C" {
#endif

void load_start(const protocol_app *app);  // nothing is loaded
void load_db(char **words, int count);     // the words behind `db`
void load_pcm(char **words, int count);    // the words behind `pcm`

int load_input_missing(void);     // 1 after an e-[...] when the network's input is not complete
int load_pcm_missing(void);       // 1 after an e-[...] when there is no clip
int load_features_missing(void);  // 1 after an e-[...] when the input is not the features of a clip

// A command wants the network or the front end: listening and a half-loaded clip end.
void load_take(void);

// Base64 of little-endian int16 samples; how many came, at most `room` and PROTOCOL_AUDIO_SAMPLES, or 0 after an
// e-[...].
uint32_t load_samples(const char *text, int16_t *samples, uint32_t room);

#ifdef __cplusplus
}
#endif
#endif
