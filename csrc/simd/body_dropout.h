/* body_dropout.h - elements dropped by Philox words. Formula: plait.reference.dropout. */

static void dropout(uint64_t key, uint64_t counter, uint64_t block, uint32_t below, float scale, const float *x,
                    const float *plus, float *y, int64_t n)
{
    vu words[4];
    for (int64_t i = 0; i < n; i += 4 * PL_VL, block += PL_VL) {
        vphilox(key, counter, block, words);
        for (int u = 0; u < 4 && i + u * PL_VL < n; u++) {
            const int64_t at = i + u * PL_VL, left = n - at;
            vf v = vselect((vi)(words[u] < below), vset(0.0f), vload_upto(x + at, left) * scale);
            if (plus) v += vload_upto(plus + at, left);
            vstore_upto(y + at, v, left);
        }
    }
}
