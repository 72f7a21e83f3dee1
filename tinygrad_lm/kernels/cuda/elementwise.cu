// y = a + b and y = a b of one shape: the residual stream, gradients that meet, the gate of an MLP. In a sum b may be a
// part that all of a's parts are added to, as the positions' rows are the same for every text.
//
//   multiply_backward: da = dy b,  db = dy a
//
// One packet a thread, where a library's kernel for any shapes and dtypes moves one number. Memory: forward reads a and
// b and writes y; backward reads dy, a and b and writes da and db.

#include "common.cuh"

extern "C" __global__ void add(const REAL* a, const REAL* b, REAL* y, long long of_b) {
    long long j = first(), i = blockIdx.y * of_b + j;
    if (j >= of_b) return;
    float A[WIDTH], B[WIDTH];
    load(a + i, A);
    load(b + j, B);
    for (int j = 0; j < WIDTH; j++) A[j] += B[j];
    store(y + i, A);
}

extern "C" __global__ void multiply(const REAL* a, const REAL* b, REAL* y, long long n) {
    long long i = first();
    if (i >= n) return;
    float A[WIDTH], B[WIDTH];
    load(a + i, A);
    load(b + i, B);
    for (int j = 0; j < WIDTH; j++) A[j] *= B[j];
    store(y + i, A);
}

// y = x times one number.
extern "C" __global__ void scale(const REAL* x, const float* factor, REAL* y, long long n) {
    long long i = first();
    if (i >= n) return;
    float X[WIDTH];
    load(x + i, X);
    for (int j = 0; j < WIDTH; j++) X[j] *= *factor;
    store(y + i, X);
}

extern "C" __global__ void multiply_backward(const REAL* dy, const REAL* a, const REAL* b, REAL* da, REAL* db,
                                             long long n) {
    long long i = first();
    if (i >= n) return;
    float D[WIDTH], A[WIDTH], B[WIDTH];
    load(dy + i, D);
    load(a + i, A);
    load(b + i, B);
    for (int j = 0; j < WIDTH; j++) {
        A[j] *= D[j];
        B[j] *= D[j];
    }
    store(da + i, B);
    store(db + i, A);
}
