// Made by `python -m converter convert`; do not edit.
#ifndef MODEL_DATA_H
#define MODEL_DATA_H

#ifdef __cplusplus
extern "C" {
#endif

extern const unsigned char kws_model_data[];  // a .tflite, 16-byte aligned
extern const unsigned int kws_model_data_bytes;

#ifdef __cplusplus
}
#endif
#endif
