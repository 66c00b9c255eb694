/* select.c - the best table at or below an instruction set. */
#include "simd.h"

extern const pl_simd pl__simd_avx2, pl__simd_avx512, pl__simd_avx512_bf16, pl__simd_amx;

const pl_simd *pl__simd_table(pl_isa isa)
{
    if (isa >= PL_ISA_AMX) return &pl__simd_amx;
    return isa >= PL_ISA_AVX512_BF16 ? &pl__simd_avx512_bf16 : isa >= PL_ISA_AVX512 ? &pl__simd_avx512 : &pl__simd_avx2;
}
