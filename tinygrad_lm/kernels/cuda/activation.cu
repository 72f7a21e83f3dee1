// The activations of hidden layers, entry by entry: y = f(x), dx = dy f′(x), with x alone kept for the backward pass.
//
//   relu          max(x, 0)            dy [x > 0]
//   relu_squared  max(x, 0)²           2 dy max(x, 0)
//   silu          x σ(x)               dy (σ + x σ (1 − σ))
//   gelu          x Φ(x)               dy (Φ + x φ)
//   gelu_tanh     x σ(2u)              dy (σ + x σ (1 − σ) 2u′)      u = √(2/π) (x + 0.044715 x³); (1 + tanh u)/2 = σ(2u)
//
// One packet a thread. Memory: forward reads x and writes y; backward reads x and dy and writes dx. A mask selects: the
// gradient that it leaves out is 0, even if dy is infinite or NaN.
//
//   F: which of them

#include "common.cuh"

// The exact quotient takes ten instructions and a branch, so that arithmetic would take longer than memory.
__device__ float logistic(float x) { return __fdividef(1, 1 + exp2f(-1.44269504f * x)); }

__device__ float relu(float x) { return x <= 0 ? 0 : x; }  // a NaN stays NaN
__device__ float relu_gradient(float dy, float x) { return x > 0 ? dy : 0; }

__device__ float relu_squared(float x) { return relu(x) * relu(x); }
__device__ float relu_squared_gradient(float dy, float x) { return 2 * relu_gradient(dy, x) * relu(x); }

__device__ float silu(float x) { return x * logistic(x); }
__device__ float silu_gradient(float dy, float x) {
    float s = logistic(x);
    return dy * (s + x * s * (1 - s));
}

__device__ float normal(float x) { return 0.5f * erfcf(-0.70710678f * x); }  // Φ; erfc is exact where 1 + erf cancels
__device__ float gelu(float x) { return x * normal(x); }
__device__ float gelu_gradient(float dy, float x) { return dy * (normal(x) + x * 0.39894228f * expf(-0.5f * x * x)); }

__device__ float twice_u(float x) { return 1.59576912f * x * (1 + 0.044715f * x * x); }
__device__ float gelu_tanh(float x) { return x * logistic(twice_u(x)); }
__device__ float gelu_tanh_gradient(float dy, float x) {
    float s = logistic(twice_u(x));
    return dy * (s + x * s * (1 - s) * 1.59576912f * (1 + 3 * 0.044715f * x * x));
}

#define JOINED(a, b) a##b
#define GRADIENT(f) JOINED(f, _gradient)

extern "C" __global__ void activation_forward(const REAL* x, REAL* y, long long n) {
    long long i = first();
    if (i >= n) return;
    float v[WIDTH];
    load(x + i, v);
    for (int j = 0; j < WIDTH; j++) v[j] = F(v[j]);
    store(y + i, v);
}

extern "C" __global__ void activation_backward(const REAL* dy, const REAL* x, REAL* dx, long long n) {
    long long i = first();
    if (i >= n) return;
    float v[WIDTH], d[WIDTH];
    load(x + i, v);
    load(dy + i, d);
    for (int j = 0; j < WIDTH; j++) d[j] = GRADIENT(F)(d[j], v[j]);
    store(dx + i, d);
}
