/* start.c - the library that was found: version, path, instruction set. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>

#include <oneapi/dnnl/dnnl.h>

#include "dnnl_layer.h"

pl_status pl_onednn_version(int *major, int *minor, int *patch)
{
    const dnnl_version_t *v = dnnl_version();
    *major = v->major, *minor = v->minor, *patch = v->patch;
    return PL_STATUS_OK;
}

const char *pl_onednn_path(void)
{
    Dl_info info;
    return dladdr((void *)dnnl_version, &info) && info.dli_fname ? info.dli_fname : "unknown";
}

pl_status pl__dnnl_start(pl_isa limit)
{
    const dnnl_version_t *v = dnnl_version();
    if (v->major != PL_ONEDNN_MAJOR || v->minor < PL_ONEDNN_MINOR)
        return pl__fail(PL_STATUS_UNSUPPORTED, "oneDNN %d.%d.%d was found at %s, expected %d.%d or a later %d.x", v->major,
                        v->minor, v->patch, pl_onednn_path(), PL_ONEDNN_MAJOR, PL_ONEDNN_MINOR, PL_ONEDNN_MAJOR);
    if (limit == PL_ISA_AVX2) dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx2);
    if (limit == PL_ISA_AVX512) dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx512_core);
    if (limit == PL_ISA_AVX512_BF16) dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx512_core_bf16);
    return PL_STATUS_OK;
}
