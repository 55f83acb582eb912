// What each stage takes, by millis() and by micros(), on ten seconds of noise: needs no microphone. A stage is shorter
// than a millisecond or two, so that millis() tells it as a mean of many.
#include <kws_library.h>

const int STEP_SAMPLES = 320;  // 20 ms
const int STEPS = 500;

uint32_t clockMillis() { return millis(); }
uint32_t clockMicros() { return micros(); }

void listenToNoise() {
    static int16_t noise[STEP_SAMPLES];
    static uint32_t state = 1;
    const char *word;
    float score;
    for (int step = 0; step < STEPS; step++) {
        for (int16_t &sample : noise) {
            state = state * 1664525u + 1013904223u;  // a linear congruential generator
            sample = (int16_t)(state >> 16) / 8;
        }
        kws_push(noise, STEP_SAMPLES);
        kws_poll(&word, &score);
    }
}

void row(const char *stage, uint32_t count, uint32_t ms, uint32_t us) {
    Serial.print(stage);
    Serial.print(count);
    Serial.print('\t');
    Serial.print((float)ms / count, 3);
    Serial.print('\t');
    Serial.println((float)us / count / 1000, 3);
}

void setup() {
    Serial.begin(115200);
    kws_init();
}

void loop() {
    kws_times ms, us;
    kws_measure(clockMillis, &ms);
    listenToNoise();
    kws_measure(clockMicros, &us);
    listenToNoise();
    kws_measure(NULL, NULL);
    Serial.println("stage\t\truns\tms by millis()\tms by micros()");
    row("features\t", ms.steps, ms.features_time, us.features_time);
    row("inference\t", ms.inferences, ms.inference_time, us.inference_time);
    row("decision\t", ms.inferences, ms.decision_time, us.decision_time);
    Serial.println();
    delay(2000);
}
