/* vec_trig.h - sine and cosine of position * frequency, right for positions of any length.
 *
 * The angle is formed and brought into [-pi/4, pi/4] in double, where 10^5 positions or seconds cost nothing; the rest
 * is done in float. Polynomials: Cephes, sinf.c and cosf.c. */

typedef double vd __attribute__((vector_size(PL_VL * 4)));
typedef double vd_unaligned __attribute__((vector_size(PL_VL * 4), aligned(8), may_alias));

#if __has_builtin(__builtin_shufflevector)
#define VSHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define VSHUFFLE(a, b, ...) __builtin_shuffle(a, b, (vi){__VA_ARGS__})
#endif

#if PL_VL == 16
/* lanes a0 b0 a1 b1 ... of the lower and the upper halves */
#define VZIP_LO(a, b) VSHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define VZIP_HI(a, b) VSHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#define VSWAP_PAIRS(a) VSHUFFLE(a, a, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14)
INLINE vf vnarrow(vd low, vd high)
{
    const __m512d l = _mm512_castps_pd(_mm512_castps256_ps512(_mm512_cvtpd_ps((__m512d)low)));
    return (vf)_mm512_insertf64x4(l, _mm256_castps_pd(_mm512_cvtpd_ps((__m512d)high)), 1);
}
#else
#define VZIP_LO(a, b) VSHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define VZIP_HI(a, b) VSHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#define VSWAP_PAIRS(a) VSHUFFLE(a, a, 1, 0, 3, 2, 5, 4, 7, 6)
INLINE vf vnarrow(vd low, vd high)
{
    return (vf)_mm256_set_m128(_mm256_cvtpd_ps((__m256d)high), _mm256_cvtpd_ps((__m256d)low));
}
#endif

/* angle = n pi/2 + rest; *turn gets n modulo 4, as -2 to 2 */
INLINE vd reduce_angle(vd angle, vd *turn)
{
    const double magic = 6755399441055744.0; /* 1.5 * 2^52: adding it rounds to an integer */
    const vd n = (angle * 0.63661977236758134 + magic) - magic;
    *turn = n - 4.0 * ((0.25 * n + magic) - magic);
    return (angle - n * 1.5707963267948966) - n * 6.123233995736766e-17;
}

/* Of the angles position * frequency[0 ... PL_VL - 1]. */
INLINE void vsincos(double position, const double *frequency, vf *sine, vf *cosine)
{
    vd turn_low, turn_high;
    const vd low = reduce_angle(position * *(const vd_unaligned *)frequency, &turn_low);
    const vd high = reduce_angle(position * *(const vd_unaligned *)(frequency + PL_VL / 2), &turn_high);
    const vf x = vnarrow(low, high), z = x * x;
    const vi turn = __builtin_convertvector(vnarrow(turn_low, turn_high), vi);
    vf s = -1.9515295891e-4f * z + 8.3321608736e-3f;
    s = (s * z - 1.6666654611e-1f) * z * x + x;
    vf c = 2.443315711809948e-5f * z - 1.388731625493765e-3f;
    c = (c * z + 4.166664568298827e-2f) * z * z - 0.5f * z + 1.0f;
    const vi odd = (turn & 1) != 0;
    *sine = (vf)((vi)vselect(odd, c, s) ^ ((turn & 2) << 30));
    *cosine = (vf)((vi)vselect(odd, s, c) ^ (((turn + 1) & 2) << 30));
}
