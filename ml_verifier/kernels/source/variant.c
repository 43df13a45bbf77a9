/* One instruction set's build of every operator; compiled with -DLOCKSTEP_ISA=<name> and
 * the matching machine flags. Kept in one translation unit per variant, so that no inline
 * function compiled for one instruction set can be linked into another. */
#include "bmm.h"
#include "cast.h"
#include "convolution.h"
#include "elementwise.h"
#include "hashing.h"
#include "indexing.h"
#include "layer_norm.h"
#include "logic.h"
#include "matmul.h"
#include "movement.h"
#include "normalisation.h"
#include "optimiser.h"
#include "ordering.h"
#include "pooling.h"
#include "random.h"
#include "reduction.h"
#include "selfcheck.h"
#include "softmax.h"

static void scratch_needed(const struct call *call, int64_t *shared, int64_t *worker) {
    *shared = *worker = 0;
    switch (call->operator_index) {
    case OPERATOR_matmul:
    case OPERATOR_bmm:
        *worker = (int64_t)sizeof(struct product_scratch);
        break;
    case OPERATOR_conv2d:
    case OPERATOR_conv2d_backward_input:
    case OPERATOR_conv2d_backward_weight:
        convolution_scratch(call, shared, worker);
        break;
    case OPERATOR_layer_norm_backward:
        *shared = layer_norm_backward_scratch(call);
        break;
    case OPERATOR_sort:
        *worker = (int64_t)sizeof(struct sort_scratch);
        break;
    default:
        break;
    }
}

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define TEXT_(a) #a
#define TEXT(a) TEXT_(a)

extern const struct variant JOIN(lockstep_variant_, LOCKSTEP_ISA);

const struct variant JOIN(lockstep_variant_, LOCKSTEP_ISA) = {
    .name = TEXT(LOCKSTEP_ISA),
    .run =
        {
#define X(name) [OPERATOR_##name] = name##_operator,
            LOCKSTEP_OPERATORS(X)
#undef X
        },
    .selfcheck = selfcheck,
    .unary_range = unary_range,
    .scratch_needed = scratch_needed,
};
