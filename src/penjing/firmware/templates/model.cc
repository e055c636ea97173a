// {{ origin }}
// Written by penjing {{ version }}. Export it anew instead of editing it.
#include "{{ name }}.h"

alignas(16) const unsigned char {{ array }}[] = {
{{ content }}
};
