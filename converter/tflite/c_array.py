"""model.tflite as a C array: model_data.c and model_data.h, 16-byte aligned as TensorFlow Lite Micro wants it."""

from __future__ import annotations

PROVENANCE = "// Made by `python -m converter convert`; do not edit."
BYTES_PER_LINE = 24

HEADER = f"""{PROVENANCE}
#ifndef MODEL_DATA_H
#define MODEL_DATA_H

#ifdef __cplusplus
extern "C" {{
#endif

extern const unsigned char kws_model_data[];  // a .tflite, 16-byte aligned
extern const unsigned int kws_model_data_bytes;

#ifdef __cplusplus
}}
#endif
#endif
"""


def render_c_array(model: bytes) -> dict[str, str]:
    """model_data.c and model_data.h of a .tflite's bytes."""
    rows = [model[start : start + BYTES_PER_LINE] for start in range(0, len(model), BYTES_PER_LINE)]
    body = "\n".join("    " + ", ".join(map(str, row)) + "," for row in rows)
    source = (
        f'{PROVENANCE}\n#include "model_data.h"\n\n'
        f"__attribute__((aligned(16))) const unsigned char kws_model_data[] = {{\n{body}\n}};\n"
        f"const unsigned int kws_model_data_bytes = {len(model)}u;\n"
    )
    return {"model_data.h": HEADER, "model_data.c": source}
