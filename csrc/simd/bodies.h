/* bodies.h - all bodies and the table they fill; included by table_<isa>.c inside its target pragma. */
#include "vec_random.h"
#include "vec_trig.h"

#include "body_act.h"
#include "body_dropout.h"
#include "body_losses.h"

#include "body_cross_entropy.h"
#include "body_norm.h"
#include "body_optim.h"
#include "body_pool.h"
#include "body_position.h"
#include "body_reduce.h"
#include "body_regression.h"
#include "body_rows.h"
#include "body_quantize.h"

/* each of these uses the ones before it */
#define GEMM(name) name
#define GEMM_ONE(p) vset(*(p))
#define GEMM_ADD(sum, x, y) ((sum) + (x) * (y))
#include "body_gemm.h"
#include "body_pairs.h"
#include "body_transpose.h"
#include "body_tiles.h"
#include "body_pack.h"
#include "body_panels.h"
#include "body_panels_low.h"
#include "body_attention_rows.h"
#include "body_attention.h"
#include "body_attention_back.h"

const pl_simd PL_TABLE = {
    .isa = PL_TABLE_ISA,
#define PL__X(name, args) .name = name,
    PL_SIMD_LIST(PL__X)
#undef PL__X
};
