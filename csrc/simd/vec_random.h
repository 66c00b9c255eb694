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

/* Ten rounds on two halves; the words come out in the order of 32-bit lanes, half 0 the even ones. */
INLINE void philox_rounds(uint64_t key, vul x0[2], vul x1[2], vul x2[2], vul x3[2], vu out[4])
{
    const vul m0 = vset64(0xD2511F53u), m1 = vset64(0xCD9E8D57u);
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
    out[0] = ODD_LANES(x0[0], x0[1] << 32);
    out[1] = ODD_LANES(x1[0], x1[1] << 32);
    out[2] = ODD_LANES(x2[0], x2[1] << 32);
    out[3] = ODD_LANES(x3[0], x3[1] << 32);
}

/* words[i] gets those of the elements 4 block + i PL_VL and following, one a lane. */
INLINE void vphilox(uint64_t key, uint64_t counter, uint64_t block, vu words[4])
{
    /* Blocks are dealt out to lanes such that turning 4 x 4 words inside each 128 bits puts all in order. */
#if PL_VL == 16
    const vul even = {0, 8, 1, 9, 2, 10, 3, 11}, odd = {4, 12, 5, 13, 6, 14, 7, 15};
#else
    const vul even = {0, 4, 1, 5}, odd = {2, 6, 3, 7};
#endif
    vul x0[2] = {even + block, odd + block}, x1[2] = {x0[0] >> 32, x0[1] >> 32};
    vul x2[2] = {vset64(counter), vset64(counter)}, x3[2] = {vset64(counter >> 32), vset64(counter >> 32)};
    vu x[4];
    philox_rounds(key, x0, x1, x2, x3, x);
    const vul ab_lo = INTERLEAVE32(lo, x[0], x[1]), ab_hi = INTERLEAVE32(hi, x[0], x[1]);
    const vul cd_lo = INTERLEAVE32(lo, x[2], x[3]), cd_hi = INTERLEAVE32(hi, x[2], x[3]);
    words[0] = INTERLEAVE64(lo, ab_lo, cd_lo);
    words[1] = INTERLEAVE64(hi, ab_lo, cd_lo);
    words[2] = INTERLEAVE64(lo, ab_hi, cd_hi);
    words[3] = INTERLEAVE64(hi, ab_hi, cd_hi);
}

/* words[i] gets word i of the blocks low + (high << 32), one `high` a lane. */
INLINE void vphilox_lanes(uint64_t key, uint64_t counter, uint32_t low, vu high, vu words[4])
{
    vul x0[2] = {vset64(low), vset64(low)}, x1[2] = {(vul)high, (vul)high >> 32};
    vul x2[2] = {vset64(counter), vset64(counter)}, x3[2] = {vset64(counter >> 32), vset64(counter >> 32)};
    philox_rounds(key, x0, x1, x2, x3, words);
}
