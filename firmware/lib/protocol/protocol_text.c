#include "protocol_text.h"

#include <string.h>

int text_u32(const char *token, uint32_t low, uint32_t high, uint32_t *value) {
    uint32_t total = 0;
    if (*token == 0) return 0;
    for (; *token; token++) {
        if (*token < '0' || *token > '9') return 0;
        const uint32_t digit = (uint32_t)(*token - '0');
        if (total > (UINT32_MAX - digit) / 10) return 0;
        total = total * 10 + digit;
    }
    if (total < low || total > high) return 0;
    *value = total;
    return 1;
}

int text_i32(const char *token, int32_t limit, int32_t *value) {
    const int negative = *token == '-';
    uint32_t size;
    if (!text_u32(token + negative, 0, (uint32_t)limit, &size)) return 0;
    *value = negative ? -(int32_t)size : (int32_t)size;
    return 1;
}

int text_hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

int text_hex32(const char *token, uint32_t *value) {
    const size_t count = strlen(token);
    uint32_t total = 0;
    if (count < 1 || count > 8) return 0;
    for (; *token; token++) {
        const int digit = text_hex_digit(*token);
        if (digit < 0) return 0;
        total = total << 4 | (uint32_t)digit;
    }
    *value = total;
    return 1;
}

int32_t text_hex_bytes(const char *digits, uint8_t *bytes, uint32_t max_bytes) {
    const size_t count = strlen(digits);
    if (count % 2 != 0 || count / 2 > max_bytes) return -1;
    for (size_t i = 0; i < count; i++) {
        if (text_hex_digit(digits[i]) < 0) return -1;
    }
    for (size_t i = 0; i < count; i += 2) {
        bytes[i / 2] = (uint8_t)(text_hex_digit(digits[i]) << 4 | text_hex_digit(digits[i + 1]));
    }
    return (int32_t)(count / 2);
}

static int base64_digit(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    if (c == '+') return 62;
    if (c == '/') return 63;
    return -1;
}

int32_t text_base64_bytes(const char *text, uint8_t *bytes, uint32_t max_bytes) {
    size_t count = strlen(text);
    if (count == 0 || count % 4 != 0) return -1;
    size_t padding = 0;
    while (padding < 2 && text[count - 1 - padding] == '=') padding++;
    const size_t total = count / 4 * 3 - padding;
    count -= padding;
    if (total > max_bytes) return -1;
    for (size_t i = 0; i < count; i++) {
        if (base64_digit(text[i]) < 0) return -1;
    }
    // Bits that padding cuts off must be zero, so that every byte string has exactly one spelling.
    if (padding && base64_digit(text[count - 1]) & (padding == 1 ? 3 : 15)) return -1;
    uint32_t gathered = 0;
    size_t done = 0;
    for (size_t i = 0; i < count; i++) {
        gathered = gathered << 6 | (uint32_t)base64_digit(text[i]);
        const unsigned bits = (unsigned)(i % 4) * 2;  // gathered and not yet written, beyond the whole byte
        if (i % 4 != 0 && done < total) bytes[done++] = (uint8_t)(gathered >> (6 - bits));
    }
    return (int32_t)total;
}

uint32_t text_crc32(uint32_t crc, const void *bytes, uint32_t count) {
    // One entry per nibble: 64 bytes of flash instead of 1024.
    static const uint32_t table[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
        0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
    };
    const uint8_t *byte = (const uint8_t *)bytes;
    crc = ~crc;
    while (count--) {
        crc ^= *byte++;
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return ~crc;
}

static protocol_sink line_sink;
static char line[128];
static uint32_t line_count;
static uint8_t has_field;

void reply_begin(protocol_sink sink) {
    line_sink = sink;
    line_count = 0;
}

static void flush(void) {
    if (line_count && line_sink) line_sink(line, line_count);
    line_count = 0;
}

static void put(char c) {
    line[line_count++] = c;
    if (line_count == sizeof line) flush();
}

void reply_text(const char *text) {
    while (*text) put(*text++);
}

void reply_clean(const char *text, uint32_t max) {
    for (; *text && max; text++, max--) {
        const char c = *text;
        put(c > ' ' && c < 127 && c != ',' && c != '[' && c != ']' && c != '%' ? c : '_');
    }
}

void reply_u64(uint64_t value) {
    char digits[20];
    uint32_t count = 0;
    do {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    while (count) put(digits[--count]);
}

void reply_hex_byte(uint8_t value) {
    static const char digits[] = "0123456789abcdef";
    put(digits[value >> 4]);
    put(digits[value & 15]);
}

void reply_line(void) {
    reply_text("\r\n");
    flush();
}

void reply_counted(const char *before, uint32_t value, const char *after) {
    reply_text(before);
    reply_u64(value);
    reply_text(after);
    reply_line();
}

void reply_open(const char *key) {
    reply_text("m-");
    reply_text(key);
    reply_text("-[");
    has_field = 0;
}

static void comma(void) {
    if (has_field) put(',');
    has_field = 1;
}

void reply_field(const char *text) {
    comma();
    reply_text(text);
}

void reply_field_clean(const char *text) {
    comma();
    reply_clean(text, 64);
}

// Words are UTF-8, of which only ASCII has a meaning in a record.
void reply_field_word(const char *text) {
    comma();
    for (; *text; text++) {
        if ((uint8_t)*text < 0x80)
            reply_clean(text, 1);
        else
            put(*text);
    }
}

void reply_field_u32(uint32_t value) {
    comma();
    reply_u64(value);
}

void reply_field_i32(int32_t value) {
    comma();
    if (value < 0) put('-');
    reply_u64((uint64_t)(value < 0 ? -(int64_t)value : value));
}

void reply_field_hex32(uint32_t value) {
    comma();
    for (int shift = 24; shift >= 0; shift -= 8) reply_hex_byte((uint8_t)(value >> shift));
}

void reply_field_bytes(const void *bytes, uint32_t count) {
    const uint8_t *byte = (const uint8_t *)bytes;
    comma();
    while (count--) reply_hex_byte(*byte++);
}

void reply_field_base64(const void *bytes, uint32_t count) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *byte = (const uint8_t *)bytes;
    comma();
    for (uint32_t at = 0; at < count; at += 3) {
        const uint32_t left = count - at;
        const uint32_t group = (uint32_t)byte[at] << 16 | (left > 1 ? (uint32_t)byte[at + 1] << 8 : 0) |
                               (left > 2 ? (uint32_t)byte[at + 2] : 0);
        put(digits[group >> 18]);
        put(digits[group >> 12 & 63]);
        put(left > 1 ? digits[group >> 6 & 63] : '=');
        put(left > 2 ? digits[group & 63] : '=');
    }
}

void reply_field_milli(double value) {
    comma();
    if (value < 0) {
        put('-');
        value = -value;
    }
    const double scaled = value * 1000.0;
    uint64_t whole = scaled < 1e18 ? (uint64_t)scaled : (uint64_t)1e18;
    const double rest = scaled - (double)whole;
    if (rest > 0.5 || (rest == 0.5 && (whole & 1))) whole++;
    reply_u64(whole / 1000);
    put('.');
    put((char)('0' + whole / 100 % 10));
    put((char)('0' + whole / 10 % 10));
    put((char)('0' + whole % 10));
}

void reply_close(void) {
    put(']');
    reply_line();
}

void reply_error(const char *sentence) {
    reply_text("e-[");
    reply_text(sentence);
    reply_text("]");
    reply_line();
}

void reply_ready(void) {
    reply_text("m-ready");
    reply_line();
}
