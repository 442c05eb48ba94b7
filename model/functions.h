// The functions that decoders choose from, in words that specs and kernels share.
#pragma once

#include <cstdint>

namespace shoal {

enum class NormKind : uint8_t { kRms, kLayer };  // LayerNorm: with a weight, perhaps a bias

enum class RopeStyle : uint8_t {
  kNone,
  kInterleaved,  // rotates (x[2p], x[2p + 1]): llama.cpp's NORM
  kHalves,       // rotates (x[p], x[p + dims / 2]): NEOX
};

enum class QkNorm : uint8_t {
  kNone,
  kRms,           // RMSNorm of each head with one weight for all heads, before rope
  kLayerPerHead,  // LayerNorm of each head with its own weight, before rope (Command R+)
  kRmsAfterRope,  // RMSNorm of each head without a weight, after rope (Llama 4)
};

enum class GateFunction : uint8_t {
  kSilu,         // silu(gate) · up
  kGeluTanh,     // gelu(gate) · up
  kSwigluClamp,  // gpt-oss: g' = min(g, 7), u' = clamp(u, ±7), g' σ(1.702 g') (u' + 1)
};

enum class Gating : uint8_t {  // of the logits of a mixture's experts
  kSoftmax,                    // probabilities over all experts
  kSigmoid,                    // of each logit
  kSoftmaxSelected,            // over the selected logits
  kSqrtSoftplus,               // of each logit
};

}  // namespace shoal
