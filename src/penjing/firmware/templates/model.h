// {{ origin }}
// Written by penjing {{ version }}. Export it anew instead of editing it.
#ifndef PENJING_{{ guard }}_H_
#define PENJING_{{ guard }}_H_

#include <cstddef>
#include <cstdint>

#include "tensorflow/lite/core/c/common.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

// The model: it lies in flash and is read in place.
extern const unsigned char {{ array }}[];
constexpr unsigned int {{ array }}_size = {{ size }};

namespace penjing {
namespace {{ name }} {

{% if arena_size %}
// Bytes of RAM for the arena: {{ arena }}, the smallest in which the file starts and
// runs in TFLM on a 64-bit machine (a 32-bit device needs somewhat less), and a tenth
// more for scratch memory of kernels that are written for one processor.
// AllocateTensors() says what is missing.
constexpr size_t kArenaSize = {{ arena_size }};
{% else %}
// Bytes of RAM for the arena: NOT KNOWN, as TFLM was not installed where this was
// written (pip install "penjing[micro]"). Set it: AllocateTensors() says what is missing.
constexpr size_t kArenaSize = 0;
{% endif %}

{% for end in ends %}
// {{ end.side }} {{ end.number }}, "{{ end.label }}": {{ end.type }}, shape {{ end.shape }}.
{% if end.scale is not none %}
// real = scale * (stored - zero point)
constexpr float k{{ end.side }}{{ end.number }}Scale = {{ end.scale }};
constexpr int k{{ end.side }}{{ end.number }}ZeroPoint = {{ end.zero_point }};
{% endif %}
constexpr size_t k{{ end.side }}{{ end.number }}Length = {{ end.length }};

{% endfor %}
// The operators that the model uses; no other is linked.
using OpResolver = tflite::MicroMutableOpResolver<{{ methods | length }}>;

inline TfLiteStatus RegisterOps(OpResolver& resolver) {
{% for method in methods %}
  TF_LITE_ENSURE_STATUS(resolver.{{ method }}());
{% endfor %}
  return kTfLiteOk;
}
{% if variables %}

// States that the model keeps between runs.
constexpr int kResourceVariables = {{ variables }};
{% endif %}

}  // namespace {{ name }}
}  // namespace penjing

#endif  // PENJING_{{ guard }}_H_
