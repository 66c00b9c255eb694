/* random.h - Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
 * Word number e of a stream is word e % 4 of block e / 4. plait.reference.philox draws the same numbers. */
#ifndef PL_RANDOM_H
#define PL_RANDOM_H

#include <stdint.h>

static inline void pl__philox(uint64_t key, uint64_t counter, uint64_t block, uint32_t out[4])
{
    uint32_t x0 = (uint32_t)block, x1 = (uint32_t)(block >> 32);
    uint32_t x2 = (uint32_t)counter, x3 = (uint32_t)(counter >> 32);
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * x0, p1 = (uint64_t)0xCD9E8D57u * x2;
        x0 = (uint32_t)(p1 >> 32) ^ x1 ^ k0;
        x1 = (uint32_t)p1;
        x2 = (uint32_t)(p0 >> 32) ^ x3 ^ k1;
        x3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = x0, out[1] = x1, out[2] = x2, out[3] = x3;
}

/* A word below this is dropped; rate in [0, 1). */
static inline uint32_t pl__drop_below(double rate) { return (uint32_t)(rate * 4294967296.0); }

/* The same for sixteen bits: the rate to the nearest of 65,536, the last of which would leave nothing. */
static inline uint32_t pl__drop_below_16(double rate)
{
    const uint32_t below = (uint32_t)(rate * 65536.0 + 0.5);
    return below < 65535 ? below : 65535;
}

#endif
