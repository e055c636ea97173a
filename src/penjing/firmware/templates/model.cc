// {{ origin }}
// Written by penjing {{ version }}. Export it anew instead of editing it.
#include "{{ name }}.h"

alignas(16) const unsigned char {{ array }}[] = {
{{ content }}
};

static_assert(sizeof({{ array }}) == {{ array }}_size,
              "{{ name }}.h is of another file: export both anew.");
