// Every TileFormat. A new one is a TileFormat in one of these files, a line of TileTypes
// (weight_tiles.h) and one of docs/gpu-kernels.md.
#pragma once

#include "kernels/cuda/tile_formats_k.h"
#include "kernels/cuda/tile_formats_legacy.h"
#include "kernels/cuda/tile_formats_plain.h"
#include "kernels/cuda/tile_formats_small.h"
