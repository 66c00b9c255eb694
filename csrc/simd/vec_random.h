/* vec_random.h - Philox4x32-10 for 4 * PL_VL elements at once; the same words as core/random.h.
 *
 * The four counters of a block are kept in 64-bit lanes: the multiplication reads the lower half of a lane and nothing
 * ever reads the rubbish that gathers in the upper half, so that no round needs a mask. */

typedef uint32_t vu __attribute__((vector_size(PL_VL * 4)));
typedef uint64_t vul __attribute__((vector_size(PL_VL * 4)));

#if PL_VL == 16
#define MUL32(a, b) ((vul)_mm512_mul_epu32((__m512i)(a), (__m512i)(b)))
#define ODD_LANES(even, odd) ((vu)_mm512_mask_blend_epi32(0xAAAA, (__m512i)(even), (__m512i)(odd)))
#define INTERLEAVE32(half, a, b) ((vul)_mm512_unpack##half##_epi32((__m512i)(a), (__m512i)(b)))
#define INTERLEAVE64(half, a, b) ((vu)_mm512_unpack##half##_epi64((__m512i)(a), (__m512i)(b)))
#else
#define MUL32(a, b) ((vul)_mm256_mul_epu32((__m256i)(a), (__m256i)(b)))
#define ODD_LANES(even, odd) ((vu)_mm256_blend_epi32((__m256i)(even), (__m256i)(odd), 0xAA))
#define INTERLEAVE32(half, a, b) ((vul)_mm256_unpack##half##_epi32((__m256i)(a), (__m256i)(b)))
#define INTERLEAVE64(half, a, b) ((vu)_mm256_unpack##half##_epi64((__m256i)(a), (__m256i)(b)))
#endif

INLINE vul vset64(uint64_t x) { return x - (vul){0}; }

/* words[i] gets those of the elements 4 block + i PL_VL and following, one a lane. */
INLINE void vphilox(uint64_t key, uint64_t counter, uint64_t block, vu words[4])
{
    /* Blocks are dealt out to lanes such that turning 4 x 4 words inside each 128 bits puts all in order. */
#if PL_VL == 16
    const vul even = {0, 8, 1, 9, 2, 10, 3, 11}, odd = {4, 12, 5, 13, 6, 14, 7, 15};
#else
    const vul even = {0, 4, 1, 5}, odd = {2, 6, 3, 7};
#endif
    const vul m0 = vset64(0xD2511F53u), m1 = vset64(0xCD9E8D57u);
    vul x0[2] = {even + block, odd + block}, x1[2], x2[2], x3[2];
    for (int h = 0; h < 2; h++) {
        x1[h] = x0[h] >> 32;
        x2[h] = vset64(counter);
        x3[h] = vset64(counter >> 32);
    }
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        const vul s0 = vset64(k0), s1 = vset64(k1);
        for (int h = 0; h < 2; h++) {
            const vul p0 = MUL32(x0[h], m0), p1 = MUL32(x2[h], m1);
            x0[h] = (p1 >> 32) ^ x1[h] ^ s0;
            x1[h] = p1;
            x2[h] = (p0 >> 32) ^ x3[h] ^ s1;
            x3[h] = p0;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    const vu a = ODD_LANES(x0[0], x0[1] << 32), b = ODD_LANES(x1[0], x1[1] << 32);
    const vu c = ODD_LANES(x2[0], x2[1] << 32), d = ODD_LANES(x3[0], x3[1] << 32);
    const vul ab_lo = INTERLEAVE32(lo, a, b), ab_hi = INTERLEAVE32(hi, a, b);
    const vul cd_lo = INTERLEAVE32(lo, c, d), cd_hi = INTERLEAVE32(hi, c, d);
    words[0] = INTERLEAVE64(lo, ab_lo, cd_lo);
    words[1] = INTERLEAVE64(hi, ab_lo, cd_lo);
    words[2] = INTERLEAVE64(lo, ab_hi, cd_hi);
    words[3] = INTERLEAVE64(hi, ab_hi, cd_hi);
}
