/* table.c - all operators, in the order of the header's list. */
#include "ops.h"

const pl_op *const pl_op_table[] = {
#define PL__X(name) &pl_op_##name,
    PL_OP_LIST(PL__X)
#undef PL__X
};

const int pl_op_count = sizeof pl_op_table / sizeof *pl_op_table;
