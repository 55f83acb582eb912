// Listens to the board's microphone: each word lights the LED and is printed with its score.
#include <kws_library.h>
#include <kws_microphone.h>

const int COLOURS[][3] = {{0, 1, 0}, {1, 0, 0}, {0, 0, 1}, {1, 1, 0}, {0, 1, 1}, {1, 0, 1}};  // red, green, blue
const unsigned long SHOWN_MS = 1000;

const char *error;
unsigned long shown;

void light(int red, int green, int blue) {
    digitalWrite(LEDR, !red);  // active low
    digitalWrite(LEDG, !green);
    digitalWrite(LEDB, !blue);
}

void setup() {
    Serial.begin(115200);
    for (int pin : {LEDR, LEDG, LEDB}) pinMode(pin, OUTPUT);
    light(0, 0, 0);
    kws_init();
    error = kws_microphone_start(kws_push);
}

void loop() {
    if (error) {  // said again for who opens the monitor later
        Serial.println(error);
        light(millis() / 500 % 2, 0, 0);
        delay(500);
        return;
    }
    const char *word;
    float score;
    if (kws_poll(&word, &score)) {
        for (size_t i = 0; i < kws_words(); i++) {
            if (kws_word(i) == word) light(COLOURS[i % 6][0], COLOURS[i % 6][1], COLOURS[i % 6][2]);
        }
        shown = millis();
        Serial.print(word);
        Serial.print(' ');
        Serial.println(score);
    } else if (millis() - shown > SHOWN_MS) {
        light(0, 0, 0);
    }
}
