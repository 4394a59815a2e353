/*
 * Widens weights that are stored as int8. A group has 128 rows of 16 values, and a scale for each of
 * the 16 columns: in the layouts of the runtime's kernels these are output channels.
 */
#include "streaming.h"

#define COLUMNS 16u
#define ROWS 128u

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("avx512f", "avx2", "default"), optimize("O3")))
#else
#define FOR_EACH_PROCESSOR
#endif

FOR_EACH_PROCESSOR
STREAMING_API void streaming_widen(const float *scales, const int8_t *codes, float *values, size_t groups)
{
    for (size_t group = 0; group < groups; group++, scales += COLUMNS) {
        for (size_t row = 0; row < ROWS; row++, codes += COLUMNS, values += COLUMNS) {
            for (size_t column = 0; column < COLUMNS; column++) {
                values[column] = scales[column] * (float)codes[column];
            }
        }
    }
}
