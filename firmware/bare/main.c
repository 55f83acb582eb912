// The sketch without the Arduino core.
void setup(void);
void loop(void);

int main(void) {
    setup();
    for (;;) loop();
}
