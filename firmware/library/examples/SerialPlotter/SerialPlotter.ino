// Tools > Serial Plotter: the score of every word as you speak, and the threshold at which the first is heard.
#include <kws_library.h>
#include <kws_microphone.h>

const unsigned long EVERY_MS = 40;

const char *error;
unsigned long plotted;

void setup() {
    Serial.begin(115200);
    kws_init();
    error = kws_microphone_start(kws_push);
}

void loop() {
    if (error) {
        Serial.println(error);
        delay(1000);
        return;
    }
    const char *word;
    float score;
    kws_poll(&word, &score);
    if (millis() - plotted < EVERY_MS) return;
    plotted = millis();
    for (size_t i = 0; i < kws_words(); i++) {
        Serial.print(kws_word(i));
        Serial.print(':');
        Serial.print(kws_score(i));
        Serial.print(',');
    }
    Serial.print("threshold:");
    Serial.println(kws_threshold(0));
}
