// {{ origin }}
// Written by penjing {{ version }} as a start: runs the model once and checks the output.
#include <cstring>

#include "{{ name }}.h"
#include "{{ name }}_self_test.h"
{% if variables %}
#include "tensorflow/lite/micro/micro_allocator.h"
{% endif %}
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_log.h"
{% if variables %}
#include "tensorflow/lite/micro/micro_resource_variable.h"
{% endif %}
#include "tensorflow/lite/micro/system_setup.h"
#include "tensorflow/lite/schema/schema_generated.h"

{% if not arena_size %}
static_assert(penjing::{{ name }}::kArenaSize > 0, "Set kArenaSize in {{ name }}.h.");
{% endif %}
alignas(16) static uint8_t arena[penjing::{{ name }}::kArenaSize];

int main() {
  tflite::InitializeTarget();
  penjing::{{ name }}::OpResolver resolver;
  if (penjing::{{ name }}::RegisterOps(resolver) != kTfLiteOk) return 1;
{% if variables %}
  tflite::MicroAllocator* allocator =
      tflite::MicroAllocator::Create(arena, sizeof(arena));
  tflite::MicroInterpreter interpreter(
      tflite::GetModel({{ array }}), resolver, allocator,
      tflite::MicroResourceVariables::Create(allocator,
                                             penjing::{{ name }}::kResourceVariables));
{% else %}
  tflite::MicroInterpreter interpreter(tflite::GetModel({{ array }}), resolver,
                                       arena, sizeof(arena));
{% endif %}
  if (interpreter.AllocateTensors() != kTfLiteOk) return 2;
{% for end in ends if end.side == "Input" %}
  std::memcpy(interpreter.input({{ end.number }})->data.raw, penjing::{{ name }}::kTestInput{{ end.number }},
              sizeof(penjing::{{ name }}::kTestInput{{ end.number }}));
{% endfor %}
  if (interpreter.Invoke() != kTfLiteOk) return 3;
  size_t wrong = 0;
{% for end in ends if end.side == "Output" %}
  wrong += penjing::{{ name }}::CountWrong(
      interpreter.typed_output_tensor<{{ end.type }}>({{ end.number }}),
      penjing::{{ name }}::kTestOutput{{ end.number }}, penjing::{{ name }}::kOutput{{ end.number }}Length,
      penjing::{{ name }}::kTestOutput{{ end.number }}Tolerance);
{% endfor %}
  MicroPrintf("{{ name }}: %d wrong values, %d bytes of the arena used",
              static_cast<int>(wrong),
              static_cast<int>(interpreter.arena_used_bytes()));
  return wrong == 0 ? 0 : 4;
}
