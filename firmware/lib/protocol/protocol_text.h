// Strict readers for the pieces of a command and a writer for reply lines. No allocation, no printf, no locale.
#ifndef PROTOCOL_TEXT_H
#define PROTOCOL_TEXT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef void (*protocol_sink)(const char *bytes, uint32_t count);

// Readers: 1 when the whole token is well formed, else 0 and the output is untouched.
int text_u32(const char *token, uint32_t low, uint32_t high,
             uint32_t *value);  // decimal digits only, low <= value <= high
int text_i32(const char *token, int32_t limit,
             int32_t *value);                        // digits, or a minus and digits; -limit <= value <= limit
int text_hex32(const char *token, uint32_t *value);  // 1 to 8 hex digits
int text_hex_digit(char c);                          // 0..15, or -1

// Checked in full, then written: a line with one wrong character changes nothing. Both return the byte count or -1.
int32_t text_hex_bytes(const char *digits, uint8_t *bytes, uint32_t max_bytes);
int32_t text_base64_bytes(const char *text, uint8_t *bytes, uint32_t max_bytes);  // RFC 4648, padded

uint32_t text_crc32(uint32_t crc, const void *bytes, uint32_t count);  // IEEE, as zlib's; start with 0

// Writer: pieces are gathered and leave through the sink by the line.
void reply_begin(protocol_sink sink);
void reply_text(const char *text);
void reply_clean(const char *text,
                 uint32_t max);  // at most max characters; what could end or split a field becomes '_'
void reply_u64(uint64_t value);
void reply_hex_byte(uint8_t value);
void reply_line(void);                                                      // ends the line with \r\n
void reply_counted(const char *before, uint32_t value, const char *after);  // a whole line with a number in it

// m-KEY-[a,b,...]: reply_open("key"), fields, reply_close(). Commas come by themselves.
void reply_open(const char *key);
void reply_field(const char *text);
void reply_field_clean(const char *text);
void reply_field_word(const char *text);  // clean, but for what is beyond ASCII: UTF-8
void reply_field_u32(uint32_t value);
void reply_field_i32(int32_t value);
void reply_field_hex32(uint32_t value);
void reply_field_bytes(const void *bytes, uint32_t count);   // hex, two digits each
void reply_field_base64(const void *bytes, uint32_t count);  // RFC 4648, padded
void reply_field_milli(double value);                        // three decimals, ties to even, as printf's %.3f
void reply_close(void);

void reply_error(const char *sentence);  // e-[sentence]
void reply_ready(void);                  // m-ready

#ifdef __cplusplus
}
#endif
#endif
