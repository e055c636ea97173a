"""Headers that declare what the written code uses of TFLM, for a compiler."""

from __future__ import annotations

from penjing.tflite.tflm_operators import TFLM_CUSTOM_OPERATORS, TFLM_OPERATORS

_METHODS = "\n".join(
    f"  TfLiteStatus {method}() {{ return kTfLiteOk; }}"
    for method in sorted({*TFLM_OPERATORS.values(), *TFLM_CUSTOM_OPERATORS.values()})
)
HEADERS = {
    "core/c/common.h": """
#include <cstddef>
#include <cstdint>
enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };
struct TfLiteTensor { union { void* data; char* raw; } data; };
#define TF_LITE_ENSURE_STATUS(a) \\
  do { const TfLiteStatus s = (a); if (s != kTfLiteOk) return s; } while (0)
""",
    "micro/micro_mutable_op_resolver.h": f"""
#include "tensorflow/lite/core/c/common.h"
namespace tflite {{
struct MicroOpResolver {{}};
template <unsigned int tOpCount>
struct MicroMutableOpResolver : MicroOpResolver {{
{_METHODS}
}};
}}
""",
    "micro/micro_allocator.h": """
#include <cstddef>
#include <cstdint>
namespace tflite {
struct MicroAllocator { static MicroAllocator* Create(uint8_t*, size_t); };
}
""",
    "micro/micro_resource_variable.h": """
#include "tensorflow/lite/micro/micro_allocator.h"
namespace tflite {
struct MicroResourceVariables {
  static MicroResourceVariables* Create(MicroAllocator*, int);
};
}
""",
    "micro/micro_interpreter.h": """
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/micro/micro_allocator.h"
namespace tflite {
struct Model;
struct MicroResourceVariables;
struct MicroInterpreter {
  MicroInterpreter(const Model*, const MicroOpResolver&, uint8_t*, size_t);
  MicroInterpreter(const Model*, const MicroOpResolver&, MicroAllocator*,
                   MicroResourceVariables*);
  TfLiteStatus AllocateTensors();
  TfLiteStatus Invoke();
  TfLiteTensor* input(size_t);
  template <class T> T* typed_output_tensor(int) { return nullptr; }
  size_t arena_used_bytes() const;
};
}
""",
    "micro/micro_log.h": "void MicroPrintf(const char* format, ...);",
    "micro/system_setup.h": "namespace tflite { void InitializeTarget(); }",
    "schema/schema_generated.h": """
namespace tflite { struct Model; const Model* GetModel(const void*); }
""",
}


def write_stubs(folder):
    for name, text in HEADERS.items():
        path = folder / "tensorflow/lite" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#pragma once\n{text}")
    return folder
