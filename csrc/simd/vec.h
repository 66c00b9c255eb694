/* vec.h - vectors of PL_VL floats, and the elementary functions on them. Included inside a target pragma only.
 *
 * Products and sums contract to FMA. Partial vectors at the end of a row go through vload_n and vstore_n. */
#ifndef PL_VL
#error "vec.h is included by table_<isa>.c, which defines PL_VL"
#endif

typedef float vf __attribute__((vector_size(PL_VL * 4)));
typedef int32_t vi __attribute__((vector_size(PL_VL * 4)));
typedef float vf_unaligned __attribute__((vector_size(PL_VL * 4), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))

INLINE vf vload(const float *p) { return *(const vf_unaligned *)p; }
INLINE void vstore(float *p, vf x) { *(vf_unaligned *)p = x; }
INLINE vf vset(float x) { return x - (vf){0}; }

/* The first n lanes, 0 <= n <= PL_VL, the others 0; memory behind them is not touched. */
#if PL_VL == 16
#define LANES_BELOW(n) ((__mmask16)((1u << (n)) - 1u))
INLINE vf vload_n(const float *p, int64_t n) { return (vf)_mm512_maskz_loadu_ps(LANES_BELOW(n), p); }
INLINE void vstore_n(float *p, vf x, int64_t n) { _mm512_mask_storeu_ps(p, LANES_BELOW(n), (__m512)x); }
/* bits, not _mm512_mask_blend_ps: GCC keeps the comparison in a mask register this way */
INLINE vf vselect(vi mask, vf yes, vf no) { return (vf)((mask & (vi)yes) | (~mask & (vi)no)); }
/* a > b ? a : b, so that b stands where one of them is NaN */
INLINE vf vmax(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
INLINE vf vmin(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
INLINE vf vsqrt(vf x) { return (vf)_mm512_sqrt_ps((__m512)x); }
#else
#define LANES_BELOW(n) ((__m256i)(((vi){0, 1, 2, 3, 4, 5, 6, 7}) < (int32_t)(n)))
INLINE vf vload_n(const float *p, int64_t n) { return (vf)_mm256_maskload_ps(p, LANES_BELOW(n)); }
INLINE void vstore_n(float *p, vf x, int64_t n) { _mm256_maskstore_ps(p, LANES_BELOW(n), (__m256)x); }
INLINE vf vselect(vi mask, vf yes, vf no) { return (vf)_mm256_blendv_ps((__m256)no, (__m256)yes, (__m256)mask); }
INLINE vf vmax(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
INLINE vf vmin(vf a, vf b) { return (vf)_mm256_min_ps((__m256)a, (__m256)b); }
INLINE vf vsqrt(vf x) { return (vf)_mm256_sqrt_ps((__m256)x); }
#endif
/* The same for any n >= 0: loops over a row need no second copy of their body. */
INLINE vf vload_upto(const float *p, int64_t n) { return n >= PL_VL ? vload(p) : vload_n(p, n); }
INLINE void vstore_upto(float *p, vf x, int64_t n)
{
    if (n >= PL_VL)
        vstore(p, x);
    else
        vstore_n(p, x, n);
}

/* Zero from lane n on. */
#if PL_VL == 16
INLINE vf vkeep(vf x, int64_t n) { return n >= PL_VL ? x : (vf)_mm512_maskz_mov_ps(LANES_BELOW(n), (__m512)x); }
#else
INLINE vf vkeep(vf x, int64_t n) { return n >= PL_VL ? x : (vf)((vi)x & (vi)LANES_BELOW(n)); }
#endif
INLINE vf vabs(vf x) { return (vf)((vi)x & 0x7fffffff); }

INLINE vi lane_numbers(void)
{
    static const int32_t n[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    vi lanes;
    memcpy(&lanes, n, sizeof lanes);
    return lanes;
}

/* Always the same tree, so that a row's sum does not depend on where the row stands. */
INLINE float vsum(vf x)
{
    float s[PL_VL];
    vstore(s, x);
    for (int w = PL_VL / 2; w; w /= 2)
        for (int i = 0; i < w; i++) s[i] += s[i + w];
    return s[0];
}

INLINE float vmaximum(vf x)
{
    float m = x[0];
    for (int i = 1; i < PL_VL; i++) m = x[i] > m ? x[i] : m;
    return m;
}

/* e^x, about 1 ulp; below -87.3 it gives 0, above 88.7 infinity; NaN stays. x = n ln 2 + r, |r| <= ln 2 / 2. */
INLINE vf vexp(vf x)
{
    const vf clamped = vmin(vmax(x, vset(-87.33654f)), vset(88.72283f));
    const vf magic = vset(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
    const vf shifted = clamped * 1.44269504f + magic;
    const vf n = shifted - magic;
    vf r = clamped - n * 0.693145752f;
    r = r - n * 1.42860677e-6f;
    vf p = vset(1.98756915e-4f);
    p = p * r + 1.39819994e-3f;
    p = p * r + 8.33345205e-3f;
    p = p * r + 4.16657962e-2f;
    p = p * r + 1.66666657e-1f;
    p = p * r + 5.00000003e-1f;
    p = p * r * r + r + 1.0f;
    /* 2^n in two steps, since n may be 128 */
    const vi k = (vi)shifted - (vi)magic, half = k >> 1;
    const vf scale1 = (vf)((half + 127) << 23), scale2 = (vf)((k - half + 127) << 23);
    vf y = p * scale1 * scale2;
    y = vselect(x < -87.33654f, vset(0.0f), y);
    y = vselect(x > 88.72283f, vset(__builtin_inff()), y);
    return vselect(x == x, y, x);
}

#define LOG2_E 1.44269504f
#define LN_2 0.693147182f

/* 2^x for x <= 0 or little above; 0 for -infinity and below -126, NaN stays. Minimax polynomials of the relative error on
 * [-0.5, 0.5], found by iterated least squares: 2e-9, or 3e-6 where bfloat16 follows. */
INLINE vf vexp2_negative(vf x, bool coarse)
{
    const vf low = vset(-126.5f), magic = vset(12582912.0f + 127.0f), clamped = vmax(low, x);
    const vf shifted = clamped + magic, r = clamped - (shifted - magic); /* low bits of `shifted`: the exponent field */
    vf p;
    if (coarse) {
        p = vset(9.570101877e-3f);
        p = p * r + 5.591786178e-2f;
        p = p * r + 2.402474484e-1f;
        p = p * r + 6.931218146e-1f;
    } else {
        p = vset(1.534581196e-4f);
        p = p * r + 1.339993138e-3f;
        p = p * r + 9.618488959e-3f;
        p = p * r + 5.550328777e-2f;
        p = p * r + 2.402264689e-1f;
        p = p * r + 6.931472057e-1f;
    }
    p = p * r + 1.0f;
    return vselect(x < low, vset(0.0f), p * (vf)((vi)shifted << 23));
}

/* Natural logarithm of a positive normal number, about 1 ulp; infinity and NaN stay. The polynomial is that of Cephes'
 * logf (S. Moshier, www.netlib.org/cephes) for sqrt(1/2) <= m < sqrt(2), x = m 2^e. */
INLINE vf vlog(vf x)
{
    const vi bits = (vi)x - 0x3f3504f3; /* sqrt(1/2) */
    const vi e = bits >> 23;
    const vf f = (vf)((bits & 0x7fffff) + 0x3f3504f3) - 1.0f, z = f * f;
    vf p = vset(7.0376836292e-2f);
    p = p * f + -1.1514610310e-1f;
    p = p * f + 1.1676998740e-1f;
    p = p * f + -1.2420140846e-1f;
    p = p * f + 1.4249322787e-1f;
    p = p * f + -1.6668057665e-1f;
    p = p * f + 2.0000714765e-1f;
    p = p * f + -2.4999993993e-1f;
    p = p * f + 3.3333331174e-1f;
    const vf n = __builtin_convertvector(e, vf);
    const vf y = f + (f * z * p + n * -2.12194440e-4f - 0.5f * z) + n * 0.693359375f;
    return vselect(x < __builtin_inff(), y, x);
}

INLINE vf vsigmoid(vf x) { return 1.0f / (1.0f + vexp(-x)); }

/* tanh: an odd polynomial where 1 - e would cancel. */
INLINE vf vtanh(vf x)
{
    const vf a = vabs(x), e = vexp(-2.0f * a), s = x * x;
    const vf large = (1.0f - e) / (1.0f + e);
    vf p = vset(-0.00609298616f);
    p = p * s + 0.0209944476f;
    p = p * s + -0.0538501918f;
    p = p * s + 0.133327615f;
    p = p * s + -0.333333286f;
    const vf small = a + a * s * p;
    const vf y = vselect(a < 0.625f, small, large);
    return (vf)((vi)y | ((vi)x & (int32_t)0x80000000));
}

/* The standard normal distribution function of x, and e^(-x^2/2), from which its density follows.
 * erfc(z) = e^(-z^2) R(1 / (1 + z/2)), R fitted, relative error below 2e-7: no cancellation in the lower tail. */
INLINE vf vnormal_cdf(vf x, vf *gauss)
{
    const vf z = vabs(x) * 0.70710678f;
    const vf g = vexp(-0.5f * x * x), t = 1.0f / (1.0f + 0.5f * z);
    vf p = vset(-0.0550517502f);
    p = p * t + 0.263905425f;
    p = p * t + -0.441482756f;
    p = p * t + 0.221197255f;
    p = p * t + 0.0170729066f;
    p = p * t + 0.181252175f;
    p = p * t + 0.2497928f;
    p = p * t + 0.281098561f;
    p = p * t + 0.282221363f;
    p = p * t + -6.01072163e-06f;
    const vf lower = 0.5f * g * p;
    *gauss = g;
    return vselect(x < 0.0f, lower, 1.0f - lower);
}
