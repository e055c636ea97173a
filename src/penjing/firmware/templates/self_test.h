// {{ origin }}
// Written by penjing {{ version }}: one sample, and what {{ expected_by }} gives for it.
#ifndef PENJING_{{ guard }}_SELF_TEST_H_
#define PENJING_{{ guard }}_SELF_TEST_H_

#include "{{ name }}.h"

namespace penjing {
namespace {{ name }} {

{% for end in ends %}
extern const {{ end.type }} kTest{{ end.side }}{{ end.number }}[k{{ end.side }}{{ end.number }}Length];
{% endfor %}

// By how much a device may differ: kernels for one processor round in their own way.
{% for end in ends if end.side == "Output" %}
constexpr double kTestOutput{{ end.number }}Tolerance = {{ end.tolerance }};
{% endfor %}

template <typename T>
size_t CountWrong(const T* given, const T* expected, size_t length,
                  double tolerance) {
  size_t wrong = 0;
  for (size_t i = 0; i < length; ++i) {
    const double difference =
        static_cast<double>(given[i]) - static_cast<double>(expected[i]);
    if (!(difference <= tolerance && -difference <= tolerance)) ++wrong;
  }
  return wrong;
}

}  // namespace {{ name }}
}  // namespace penjing

#endif  // PENJING_{{ guard }}_SELF_TEST_H_
