/* body_position.h - positions told to rows: added sinusoids, rotated pairs. Formulas: plait.reference.add_positions,
 * rope. `frequency` has room for whole vectors behind its end. */

static void sinusoid_row(double position, const double *frequency, int64_t width, const float *x, float *y)
{
    vf s, c;
    for (int64_t j = 0; j < width; j += 2 * PL_VL) {
        vsincos(position, frequency + j / 2, &s, &c);
        vstore_upto(y + j, vload_upto(x + j, width - j) + VZIP_LO(s, c), width - j);
        const int64_t k = j + PL_VL;
        if (k < width) vstore_upto(y + k, vload_upto(x + k, width - k) + VZIP_HI(s, c), width - k);
    }
}

/* The first n columns from a and b, turned by the angle of sine s and cosine c. */
INLINE void rotate_halves(const float *a, const float *b, float *ya, float *yb, vf s, vf c, int64_t n, int add)
{
    const vf va = vload_upto(a, n), vb = vload_upto(b, n);
    vf ra = va * c - vb * s, rb = vb * c + va * s;
    if (add) ra += vload_upto(ya, n), rb += vload_upto(yb, n);
    vstore_upto(ya, ra, n);
    vstore_upto(yb, rb, n);
}

/* s has the sign of the first of a pair turned round. */
INLINE void rotate_pairs(const float *a, float *y, vf s, vf c, int64_t n, int add)
{
    const vf v = vload_upto(a, n);
    vf r = v * c + VSWAP_PAIRS(v) * s;
    if (add) r += vload_upto(y, n);
    vstore_upto(y, r, n);
}

static void rope_row(double position, float direction, const double *frequency, int64_t rotary, int interleaved,
                     int64_t heads, int64_t width, const float *x, float *y, int add)
{
    const int64_t half = rotary / 2;
    vf s, c;
    for (int64_t i = 0; i < half; i += PL_VL) {
        vsincos(position, frequency + i, &s, &c);
        s *= direction;
        const vf s_lo = VZIP_LO(-s, s), s_hi = VZIP_HI(-s, s), c_lo = VZIP_LO(c, c), c_hi = VZIP_HI(c, c);
        for (int64_t h = 0; h < heads; h++) {
            const float *from = x + h * width;
            float *to = y + h * width;
            if (!interleaved) {
                rotate_halves(from + i, from + half + i, to + i, to + half + i, s, c, half - i, add);
                continue;
            }
            const int64_t j = 2 * i, k = j + PL_VL;
            rotate_pairs(from + j, to + j, s_lo, c_lo, rotary - j, add);
            if (k < rotary) rotate_pairs(from + k, to + k, s_hi, c_hi, rotary - k, add);
        }
    }
    for (int64_t h = 0; h < heads && rotary < width; h++)
        for (int64_t j = h * width + rotary; j < (h + 1) * width; j++) y[j] = add ? y[j] + x[j] : x[j];
}
