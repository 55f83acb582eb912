// Tells a phone each word heard. Needs the library ArduinoBLE (Library Manager). On the phone: an app that shows
// Bluetooth Low Energy services; connect to "Keywords", subscribe to the characteristic, which is text.
#include <ArduinoBLE.h>
#include <kws_library.h>
#include <kws_microphone.h>

const int LONGEST_WORD = 32;

BLEService keywords("1d3f7d5c-7a4a-4c58-9c0c-5f6b2f5b1a10");
BLEStringCharacteristic heard("1d3f7d5c-7a4a-4c58-9c0c-5f6b2f5b1a11", BLERead | BLENotify, LONGEST_WORD);

const char *error;

void setup() {
    Serial.begin(115200);
    kws_init();
    if (!BLE.begin()) {
        error = "Bluetooth did not start; update the board's bootloader and core";
        return;
    }
    BLE.setLocalName("Keywords");
    BLE.setAdvertisedService(keywords);
    keywords.addCharacteristic(heard);
    BLE.addService(keywords);
    BLE.advertise();
    error = kws_microphone_start(kws_push);
}

void loop() {
    if (error) {
        Serial.println(error);
        delay(1000);
        return;
    }
    BLE.poll();
    const char *word;
    float score;
    if (kws_poll(&word, &score)) heard.writeValue(word);
}
