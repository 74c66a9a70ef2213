/* Ternary weights times int8 activations by the algorithm of bitnet.cpp's i2_s kernel, written anew for
 * comparison (Wang et al., arXiv:2410.16144; microsoft/BitNet). Codes are digit + 1, two bits each, 128 columns
 * to 32 bytes: byte j holds columns j, j + 32, j + 64 and j + 96 of its block from the top bits down. Products of
 * a code and an activation are added in pairs to 16 bits, and 32 blocks (4096 columns) are added up in those
 * 16 bits before they are widened: 128 pairs of up to 2 * 2 * 127 do not fit, and wrap.
 * Columns must be a multiple of 128.
 */
#include <immintrin.h>
#include <stdint.h>

enum { BLOCK = 128, BYTES = 32, BLOCKS_BEFORE_WIDENING = 32, TILE = 4 };

static int32_t total(__m256i lanes)
{
    int32_t values[8], sum = 0;
    _mm256_storeu_si256((__m256i *)values, lanes);
    for (int i = 0; i < 8; i++)
        sum += values[i];
    return sum;
}

/* Sums of codes times activations of one row and `tokens` tokens (at most TILE, a constant where it is called). */
static inline void row_sums(const uint8_t *codes, const int8_t *x, long columns, int tokens, int32_t *out)
{
    const __m256i low = _mm256_set1_epi8(3), ones = _mm256_set1_epi16(1);
    const long blocks = columns / BLOCK;
    __m256i wide[TILE];
    for (int t = 0; t < tokens; t++)
        wide[t] = _mm256_setzero_si256();
    for (long first = 0; first < blocks; first += BLOCKS_BEFORE_WIDENING) {
        const long last = first + BLOCKS_BEFORE_WIDENING < blocks ? first + BLOCKS_BEFORE_WIDENING : blocks;
        __m256i narrow[TILE];
        for (int t = 0; t < tokens; t++)
            narrow[t] = _mm256_setzero_si256();
        for (long block = first; block < last; block++) {
            const __m256i packed = _mm256_loadu_si256((const __m256i *)(codes + block * BYTES));
            const __m256i code[4] = {
                _mm256_and_si256(_mm256_srli_epi16(packed, 6), low),
                _mm256_and_si256(_mm256_srli_epi16(packed, 4), low),
                _mm256_and_si256(_mm256_srli_epi16(packed, 2), low),
                _mm256_and_si256(packed, low),
            };
            for (int t = 0; t < tokens; t++)
                for (int part = 0; part < 4; part++) {
                    const int8_t *at = x + t * columns + block * BLOCK + part * BYTES;
                    const __m256i values = _mm256_loadu_si256((const __m256i *)at);
                    narrow[t] = _mm256_add_epi16(narrow[t], _mm256_maddubs_epi16(code[part], values));
                }
        }
        for (int t = 0; t < tokens; t++)
            wide[t] = _mm256_add_epi32(wide[t], _mm256_madd_epi16(narrow[t], ones));
    }
    for (int t = 0; t < tokens; t++)
        out[t] = total(wide[t]);
}

/* out[n * rows + m] = sum_k digit[m][k] * x[n][k]; sums[n] = sum_k x[n][k] takes the codes' 1 off. */
void i2s(const uint8_t *codes, const int8_t *x, const int32_t *sums, int32_t *out, long rows, long columns,
         long tokens)
{
    int32_t found[TILE];
    for (long n = 0; n < tokens; n += TILE) {
        const int count = tokens - n < TILE ? (int)(tokens - n) : TILE;
        for (long m = 0; m < rows; m++) {
            const uint8_t *row = codes + m * (columns / BLOCK) * BYTES;
            if (count == TILE)
                row_sums(row, x + n * columns, columns, TILE, found);
            else
                for (int t = 0; t < count; t++)
                    row_sums(row, x + (n + t) * columns, columns, 1, found + t);
            for (int t = 0; t < count; t++)
                out[(n + t) * rows + m] = found[t] - sums[n + t];
        }
    }
}
