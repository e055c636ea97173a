// {{ origin }}
// Written by penjing {{ version }}: one sample, and what {{ expected_by }} gives for it.
#include "{{ name }}_self_test.h"

#include <limits>

namespace penjing {
namespace {{ name }} {

{% for end in ends %}
alignas(16) const {{ end.type }} kTest{{ end.side }}{{ end.number }}[] = {
{{ end.written }}
};

{% endfor %}
}  // namespace {{ name }}
}  // namespace penjing
