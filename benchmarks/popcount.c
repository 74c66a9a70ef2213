// Binary matrix product by hand: out[n][m] = scale[m] * (columns - 2 * ones(w[m] ^ x[n])), and its peak.
// With AVX-512 VPOPCNTDQ a popcount per word, else Harley and Seal's carry-save adders over 16 words and a
// popcount by vpshufb (AVX-512BW), as one writes it with intrinsics. Built by bench_engines.py.
#include <immintrin.h>
#include <stdint.h>

static inline __m512i word(const uint64_t *x) { return _mm512_set1_epi64((long long)*x); }

#ifdef __AVX512VPOPCNTDQ__

int counts_words(void) { return 1; }

// Eight rows a vector, two vectors by six tokens at once: 12 sums stay in registers.
#define TOKENS 6
static void tile(const uint64_t *w, const uint64_t *x, int64_t words, int64_t columns,
                 const int64_t *scale, int64_t *out, int64_t rows, int vectors, int tokens) {
    __m512i sum[2][TOKENS];
    for (int v = 0; v < vectors; v++)
        for (int t = 0; t < tokens; t++) sum[v][t] = _mm512_setzero_si512();
    for (int64_t k = 0; k < words; k++)
        for (int t = 0; t < tokens; t++) {
            __m512i token = word(x + t * words + k);
            for (int v = 0; v < vectors; v++) {
                __m512i bits = _mm512_loadu_si512(w + (v * words + k) * 8);
                sum[v][t] = _mm512_add_epi64(sum[v][t], _mm512_popcnt_epi64(_mm512_xor_si512(bits, token)));
            }
        }
    for (int v = 0; v < vectors; v++)
        for (int t = 0; t < tokens; t++) {
            __m512i twice = _mm512_slli_epi64(sum[v][t], 1);
            __m512i made = _mm512_sub_epi64(_mm512_set1_epi64(columns), twice);
            made = _mm512_mullo_epi64(made, _mm512_loadu_si512(scale + v * 8));
            _mm512_storeu_si512(out + t * rows + v * 8, made);
        }
}

void binary_product(const uint64_t *w, const uint64_t *x, const int64_t *scale, int64_t *out, int64_t rows,
                    int64_t tokens, int64_t words, int64_t columns) {
    for (int64_t m = 0; m + 16 <= rows; m += 16) {
        int64_t n = 0;
        for (; n + TOKENS <= tokens; n += TOKENS)
            tile(w + m * words, x + n * words, words, columns, scale + m, out + n * rows + m, rows, 2, TOKENS);
        for (; n < tokens; n++)
            tile(w + m * words, x + n * words, words, columns, scale + m, out + n * rows + m, rows, 2, 1);
    }
}

int64_t peak(int64_t rounds, const uint64_t *words) {
    __m512i sum[8];
    for (int i = 0; i < 8; i++) sum[i] = _mm512_setzero_si512();
    for (int64_t r = 0; r < rounds; r++) {
        __m512i token = word(words + (r & 7));
        for (int i = 0; i < 8; i++) {  // operands from the first-level cache
            __m512i bits = _mm512_xor_si512(_mm512_loadu_si512(words + i * 8), token);
            sum[i] = _mm512_add_epi64(sum[i], _mm512_popcnt_epi64(bits));
        }
    }
    int64_t total = 0;
    for (int i = 0; i < 8; i++) total += _mm512_reduce_add_epi64(sum[i]);
    return total;
}

int64_t peak_words(int64_t rounds) { return rounds * 8; }

#else

int counts_words(void) { return 0; }

static inline __m512i ones(__m512i v) {
    const __m512i low = _mm512_set1_epi8(15);
    const __m512i table = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    __m512i first = _mm512_shuffle_epi8(table, _mm512_and_si512(v, low));
    __m512i second = _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(v, 4), low));
    return _mm512_sad_epu8(_mm512_add_epi8(first, second), _mm512_setzero_si512());
}

#define ADD(high, low, a, b)                                   \
    do {                                                       \
        __m512i before = low;                                  \
        low = _mm512_ternarylogic_epi64(before, a, b, 0x96);   \
        high = _mm512_ternarylogic_epi64(before, a, b, 0xE8);  \
    } while (0)

typedef struct {
    __m512i ones, twos, fours, eights;
} Held;

static inline __m512i differing(const uint64_t *w, const uint64_t *x, int i) {
    return _mm512_xor_si512(_mm512_loadu_si512(w + 8 * i), word(x + i));
}

static inline __m512i sixteens(Held *h, const uint64_t *w, const uint64_t *x) {
    __m512i a, b, c, d, e, f, made;
#define TWO(into, i) ADD(into, h->ones, differing(w, x, i), differing(w, x, i + 1))
    TWO(a, 0);
    TWO(b, 2);
    ADD(c, h->twos, a, b);
    TWO(a, 4);
    TWO(b, 6);
    ADD(d, h->twos, a, b);
    ADD(e, h->fours, c, d);
    TWO(a, 8);
    TWO(b, 10);
    ADD(c, h->twos, a, b);
    TWO(a, 12);
    TWO(b, 14);
    ADD(d, h->twos, a, b);
    ADD(f, h->fours, c, d);
    ADD(made, h->eights, e, f);
    return made;
}

static inline __m512i differing_ones(const uint64_t *w, const uint64_t *x, int64_t words) {
    const __m512i zero = _mm512_setzero_si512();
    Held h = {zero, zero, zero, zero};
    __m512i total = zero;
    int64_t k = 0;
    for (; k + 16 <= words; k += 16) total = _mm512_add_epi64(total, ones(sixteens(&h, w + k * 8, x + k)));
    total = _mm512_slli_epi64(total, 4);
    total = _mm512_add_epi64(total, _mm512_slli_epi64(ones(h.eights), 3));
    total = _mm512_add_epi64(total, _mm512_slli_epi64(ones(h.fours), 2));
    total = _mm512_add_epi64(total, _mm512_slli_epi64(ones(h.twos), 1));
    total = _mm512_add_epi64(total, ones(h.ones));
    for (; k < words; k++) total = _mm512_add_epi64(total, ones(differing(w + k * 8, x + k, 0)));
    return total;
}

void binary_product(const uint64_t *w, const uint64_t *x, const int64_t *scale, int64_t *out, int64_t rows,
                    int64_t tokens, int64_t words, int64_t columns) {
    for (int64_t m = 0; m + 8 <= rows; m += 8)
        for (int64_t n = 0; n < tokens; n++) {
            __m512i twice = _mm512_slli_epi64(differing_ones(w + m * words, x + n * words, words), 1);
            __m512i made = _mm512_sub_epi64(_mm512_set1_epi64(columns), twice);
            _mm512_storeu_si512(out + n * rows + m, _mm512_mullo_epi64(made, _mm512_loadu_si512(scale + m)));
        }
}

int64_t peak(int64_t rounds, const uint64_t *words) {  // operands from the first-level cache
    const __m512i zero = _mm512_setzero_si512();
    Held h = {zero, zero, zero, zero};
    __m512i total = zero;
    for (int64_t r = 0; r < rounds; r++)
        total = _mm512_add_epi64(total, ones(sixteens(&h, words + (r & 1) * 128, words + (r & 15))));
    total = _mm512_add_epi64(total, _mm512_add_epi64(ones(h.ones), ones(h.twos)));
    return _mm512_reduce_add_epi64(_mm512_add_epi64(total, _mm512_add_epi64(ones(h.fours), ones(h.eights))));
}

int64_t peak_words(int64_t rounds) { return rounds * 16; }

#endif
