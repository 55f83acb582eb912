// engine.h on TensorFlow Lite Micro. Built and run with the Arduino library Chirale_TensorFLowLite 2.0.0 (commit
// 46da2f9, gnu++14) and with tflite-micro of August 2026 (commit 90b983c, which wants C++17).
#include <new>
#include <stdio.h>
#include <string.h>
#include <type_traits>
#include <utility>

#include "board.h"
#include "engine.h"
#include "kws_model.h"
#include "model_data.h"
#include "tensorflow/lite/micro/memory_helpers.h"
#include "tensorflow/lite/micro/micro_allocator.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/micro/micro_resource_variable.h"
#include "tensorflow/lite/schema/schema_generated.h"

#if defined(KWS_TFLM_NEEDS_PER_CHANNEL_DENSE) && KWS_TFLM_NEEDS_PER_CHANNEL_DENSE && \
    !defined(KWS_TFLM_HAS_PER_CHANNEL_DENSE)
#error \
    "This model's dense layer has several weight scales; the Arduino library of 2024 reads only the first. Use the AOT engine."
#endif

#ifndef KWS_TFLM_ONLY  // the ends are of any type and number, the file is the model's own
#define KWS_TFLM_ONLY 0
#define KWS_INPUTS 1
#define KWS_OUTPUTS 1
#endif
#ifndef KWS_VARIABLES
#define KWS_VARIABLES 0
#endif
#if KWS_VARIABLES && !KWS_TFLM_ONLY
#error "This model keeps state in variables, which this engine does not provide. Use the AOT engine."
#endif

namespace {

using BaseResolver = tflite::MicroMutableOpResolver<KWS_TFLM_OPS>;
// TfLiteRegistration in the Arduino library, TFLMRegistration in newer versions: take what FindOp returns.
using FoundOp = decltype(std::declval<const BaseResolver &>().FindOp(tflite::BuiltinOperator_CONV_2D));
using Registration = std::remove_cv<std::remove_pointer<FoundOp>::type>::type;
using Invoke = TfLiteStatus (*)(TfLiteContext *, TfLiteNode *);

// One slot per kind of operator: its registration with `invoke` led through observe(), and the kernel behind it.
Registration slots[KWS_TFLM_OPS];
Invoke kernels[KWS_TFLM_OPS];
int slots_used;

// Where observe() writes; records is NULL while nobody asked for a trace.
engine_layer_record *records;
int max_records;
int layer_count;

uint32_t crc32(const uint8_t *bytes, size_t count) {
    uint32_t crc = ~0u;
    while (count--) {
        crc ^= *bytes++;
        for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (0xEDB88320u & (0u - (crc & 1u)));
    }
    return ~crc;
}

void record_output(engine_layer_record *record, TfLiteContext *context, TfLiteNode *node) {
    record->has_crc = 0;
    record->crc32 = 0;
    if (node->outputs->size != 1) return;
    const TfLiteEvalTensor *output = context->GetEvalTensor(context, node->outputs->data[0]);
    size_t bytes = 0;
    if (!output || output->type != kTfLiteInt8 || tflite::TfLiteEvalTensorByteLength(output, &bytes) != kTfLiteOk)
        return;
    record->crc32 = crc32(output->data.uint8, bytes);
    record->has_crc = 1;
}

// Runs a kernel. A layer's output is whole only until the arena reuses its place, so its CRC is taken here, after the
// clock was read.
TfLiteStatus observe(int slot, TfLiteContext *context, TfLiteNode *node) {
    const uint32_t start = board_cycles();
    const TfLiteStatus status = kernels[slot](context, node);
    const uint32_t cycles = board_cycles() - start;
    if (records && layer_count < max_records) {
        engine_layer_record *record = &records[layer_count];
        record->name = tflite::EnumNameBuiltinOperator(static_cast<tflite::BuiltinOperator>(slots[slot].builtin_code));
        record->cycles = cycles;
        record_output(record, context, node);
        layer_count++;
    }
    return status;
}

// A kernel is a plain function without a place for a slot number, hence one function per slot.
template <size_t slot> TfLiteStatus observe_slot(TfLiteContext *context, TfLiteNode *node) {
    return observe(static_cast<int>(slot), context, node);
}

template <size_t... slot> Invoke observer(int wanted, std::index_sequence<slot...>) {
    static const Invoke table[] = {observe_slot<slot>...};
    return table[wanted];
}

class Resolver : public BaseResolver {
  public:
    using BaseResolver::FindOp;

    const Registration *FindOp(tflite::BuiltinOperator op) const override {
        const Registration *plain = BaseResolver::FindOp(op);
        for (int slot = 0; plain && slot < slots_used; slot++) {
            if (slots[slot].builtin_code == op) return &slots[slot];
        }
        if (!plain || slots_used == KWS_TFLM_OPS) return plain;
        kernels[slots_used] = plain->invoke;
        slots[slots_used] = *plain;
        slots[slots_used].invoke = observer(slots_used, std::make_index_sequence<KWS_TFLM_OPS>());
        return &slots[slots_used++];
    }

  private:
    TF_LITE_REMOVE_VIRTUAL_DELETE
};

alignas(16) uint8_t arena[KWS_TFLM_ARENA_BYTES];
// Raw storage: a static object would want a destructor at an exit that never comes.
alignas(Resolver) unsigned char resolver_storage[sizeof(Resolver)];
alignas(tflite::MicroInterpreter) unsigned char interpreter_storage[sizeof(tflite::MicroInterpreter)];
tflite::MicroInterpreter *interpreter;
char error[224];

#if KWS_INPUTS > 1
int8_t wire_input[KWS_INPUT_BYTES];  // all inputs, one behind the other
#endif
#if KWS_OUTPUTS > 1
int8_t wire_output[KWS_OUTPUT_BYTES];
#endif

#if !KWS_TFLM_ONLY
unsigned nano(float value) { return static_cast<unsigned>(value * 1e9f); }  // the core's printf knows no floats

const char *check_tensor(const char *which, const TfLiteTensor *tensor, size_t bytes, float scale, int zero_point) {
    if (!tensor || tensor->type != kTfLiteInt8) {
        snprintf(error, sizeof error, "tflm: the model's %s must be int8, got type %d; convert a quantized model",
                 which, tensor ? tensor->type : -1);
        return error;
    }
    const int got_zero_point = static_cast<int>(tensor->params.zero_point);
    if (tensor->bytes == bytes && tensor->params.scale == scale && got_zero_point == zero_point) return nullptr;
    snprintf(error, sizeof error,
             "tflm: model_data.c is not the model of kws_model.h: its %s has %u bytes, scale %ue-9, zero point %d, "
             "want %u, %ue-9, %d; "
             "convert again",
             which, static_cast<unsigned>(tensor->bytes), nano(tensor->params.scale), got_zero_point,
             static_cast<unsigned>(bytes), nano(scale), zero_point);
    return error;
}

const char *check_ends() {
    const char *fault =
        check_tensor("input", interpreter->input(0), KWS_INPUT_BYTES, KWS_INPUT_SCALE, KWS_INPUT_ZERO_POINT);
    if (fault) return fault;
    return check_tensor("output", interpreter->output(0), KWS_OUTPUT_BYTES, KWS_OUTPUT_SCALE, KWS_OUTPUT_ZERO_POINT);
}
#else
const char *check_ends() {
    size_t inputs = 0, outputs = 0;
    for (size_t i = 0; i < interpreter->inputs_size(); i++) inputs += interpreter->input(i)->bytes;
    for (size_t i = 0; i < interpreter->outputs_size(); i++) outputs += interpreter->output(i)->bytes;
    if (inputs == KWS_INPUT_BYTES && outputs == KWS_OUTPUT_BYTES) return nullptr;
    snprintf(error, sizeof error,
             "tflm: model_data.c is not the model of kws_model.h: %u bytes go in and %u come out, want %u and %u; "
             "convert again",
             static_cast<unsigned>(inputs), static_cast<unsigned>(outputs), static_cast<unsigned>(KWS_INPUT_BYTES),
             static_cast<unsigned>(KWS_OUTPUT_BYTES));
    return error;
}
#endif

const char *allocate(const tflite::Model *model) {
    Resolver *resolver = new (resolver_storage) Resolver();
    KWS_TFLM_ADD_OPS((*resolver));
#if KWS_VARIABLES
    tflite::MicroAllocator *allocator = tflite::MicroAllocator::Create(arena, sizeof arena);
    interpreter = new (interpreter_storage) tflite::MicroInterpreter(
        model, *resolver, allocator, tflite::MicroResourceVariables::Create(allocator, KWS_VARIABLES));
#else
    interpreter = new (interpreter_storage) tflite::MicroInterpreter(model, *resolver, arena, sizeof arena);
#endif
    if (interpreter->AllocateTensors() == kTfLiteOk) return nullptr;
    interpreter = nullptr;
    snprintf(error, sizeof error,
             "tflm: AllocateTensors failed in an arena of %u bytes; raise KWS_TFLM_ARENA_BYTES or add the operator",
             static_cast<unsigned>(sizeof arena));
    return error;
}

}  // namespace

extern "C" {

const char *engine_name(void) { return "tflm"; }

const char *engine_init(void) {
    if (interpreter) return nullptr;
    const tflite::Model *model = tflite::GetModel(kws_model_data);
    if (model->version() != TFLITE_SCHEMA_VERSION) {
        snprintf(error, sizeof error,
                 "tflm: the model has schema version %u, this library reads %d; convert the model again",
                 static_cast<unsigned>(model->version()), TFLITE_SCHEMA_VERSION);
        return error;
    }
    const char *fault = allocate(model);
    if (!fault) fault = check_ends();
    if (fault) interpreter = nullptr;
    return fault;
}

#if KWS_INPUTS > 1
int8_t *engine_input(void) { return wire_input; }
#else
int8_t *engine_input(void) { return interpreter->input(0)->data.int8; }
#endif
#if KWS_OUTPUTS > 1
const int8_t *engine_output(void) { return wire_output; }
#else
const int8_t *engine_output(void) { return interpreter->output(0)->data.int8; }
#endif

const char *engine_invoke(void) {
#if KWS_INPUTS > 1
    const int8_t *from = wire_input;
    for (size_t i = 0; i < KWS_INPUTS; from += interpreter->input(i++)->bytes)
        memcpy(interpreter->input(i)->data.raw, from, interpreter->input(i)->bytes);
#endif
    if (interpreter->Invoke() != kTfLiteOk)
        return "tflm: Invoke failed; the library's log on USB Serial names the operator";
#if KWS_OUTPUTS > 1
    int8_t *to = wire_output;
    for (size_t i = 0; i < KWS_OUTPUTS; to += interpreter->output(i++)->bytes)
        memcpy(to, interpreter->output(i)->data.raw, interpreter->output(i)->bytes);
#endif
    return nullptr;
}

void engine_reset(void) {
#if KWS_VARIABLES  // what CALL_ONCE makes is made anew by a new interpreter alone
    interpreter->~MicroInterpreter();
    interpreter = nullptr;
    slots_used = 0;
    const char *fault = engine_init();
    if (fault) board_fail(fault);
#elif KWS_TFLM_ONLY
    (void)interpreter->Reset();
#endif
}

uint32_t engine_stream_frames(void) { return 0; }
const char *engine_stream_start(void) { return engine_invoke(); }
const char *engine_stream_next(const int8_t *) { return "tflm: the interpreter runs whole windows only"; }

uint32_t engine_arena_bytes(void) { return interpreter ? static_cast<uint32_t>(interpreter->arena_used_bytes()) : 0; }

const char *engine_invoke_traced(engine_layer_record *into, int max, int *count) {
    records = into;
    max_records = max;
    layer_count = 0;
    const char *fault = engine_invoke();
    records = nullptr;
    *count = layer_count;
    return fault;
}

}  // extern "C"
