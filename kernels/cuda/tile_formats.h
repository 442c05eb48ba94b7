// Every TileFormat. A new one is a TileFormat in one of these files, a line of TileTypes
// (weight_tiles.h), one of tiles_*.cu (the linker asks for it) and one of docs/gpu-kernels.md (its
// test does).
#pragma once

#include "kernels/cuda/tile_formats_k.h"
#include "kernels/cuda/tile_formats_legacy.h"
#include "kernels/cuda/tile_formats_plain.h"
#include "kernels/cuda/tile_formats_small.h"
