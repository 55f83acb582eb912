// Your own action: write it into onKeyword, which is called once for each word heard.
#include <kws_library.h>
#include <kws_microphone.h>

void onKeyword(const char *word, float score) {
    digitalWrite(LED_BUILTIN, strcmp(word, kws_word(0)) == 0 ? HIGH : LOW);  // the first word: on; any other: off
    Serial.print(word);
    Serial.print(' ');
    Serial.println(score);
}

const char *error;

void setup() {
    Serial.begin(115200);
    pinMode(LED_BUILTIN, OUTPUT);
    kws_init();
    error = kws_microphone_start(kws_push);
}

void loop() {
    if (error) {
        Serial.println(error);
        delay(1000);
    }
    const char *word;
    float score;
    while (kws_poll(&word, &score)) onKeyword(word, score);
}
