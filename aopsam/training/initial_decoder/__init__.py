"""Initial weights with which `tiny`'s mask decoder answers clicks and boxes before any training.

`program.py` lists the five steps, `layout.py` the channels, `reading.py` has steps 1, 2 and 4, `drawing.py` steps 3 and
5. Below, the untrained model of `build_sam(SamRecipe())` (seed 0) answers one click, with the region's border in place
of the answer of its edge head, which is trained before the decoder; it computed all the numbers.

The photo is a window of 64 x 64 px at the top left of the 512 px frame: 4 x 4 cells of 16 px. One region is light
(RGB 200, 190, 120; x >= 24 and y < 40), the rest is dark grey (60, 60, 60). The click X is at x = 44, y = 20. Each
character is a quadrant of 8 x 8 px, each group of 2 x 2 quadrants a cell, `#` is light:

         x  0 8  16 24  32 40  48 56
    y  0    . .   . #    # #    # #
       8    . .   . #    # #    # #

      16    . .   . #    # X    # #        The click lies in the cell of column 2, row 1,
      24    . .   . #    # #    # #        in the middle of its upper right quadrant.

      32    . .   . #    # #    # #
      40    . .   . .    . .    . .

      48    . .   . .    . .    . .
      56    . .   . .    . .    . .

1. The first self-attention copies the click's position to every output token: in the position channels the token of
   each mask has a cosine of 1.00 with the click's. IS_BOX_CHANNEL stays as empty as EMPTY_CHANNEL (0.06 both).
2. In the first cross attention four heads read one quadrant each. The head of upper right quadrants puts 0.99 of its
   attention on the click's own cell. The nearest quadrants of the other heads are 8 or 11 px away, in two or four
   cells: upper left 0.68 and 0.32, lower right 0.51 and 0.49, lower left 0.35 at most. The MLP's gates then add
   1.2 x the descriptor of the upper right quadrant (both gates open: 53 and 34), 0.16 x each of upper left and lower
   right (one gate just open: 1.5) and nothing of lower left (shut: -50). The sum, in READ_CHANNELS, has a cosine of
   0.996 with the descriptor under the click, (-0.07, 0.31, -0.61, -0.03, 0.22, 0.13, 0.38, 0.40, -0.22, -0.13, -0.21,
   -0.18).
3. Every image cell gets its nearness to the click. In a window this small all are near: NEAR_CHANNEL is 0.39 to 0.42.
   (With the same click in a whole frame it falls along the row from 0.42 at the click to 0.14 at x = 200 and 0.03 at
   x = 264.)
4. Boxes only: for a click the gate of the descriptor inside a box stays shut.
5. The cosine of the descriptor that was read with the descriptor of each 4 x 4 px position is 0.85 to 1.00 in the
   light region and 0.63 to 0.72 in the dark one. A logit is about 8 x (cosine - level), the price for distance being
   almost 0 here:

    mask               level    light: 8 x (1 - level), computed   dark: 8 x (0.67 - level), computed   logit > 0
    single             0.75          2.0    0.6 to 2.2                  -0.6   -1.4 to -0.5             light region
    alternative 1      0.375         5.0    3.7 to 5.3                   2.4    1.5 to  2.8             whole photo
    alternative 2      0.75          2.0    0.9 to 2.5                  -0.6   -1.3 to -0.3             light region
    alternative 3      0.94          0.5   -0.8 to 0.8                  -2.2   -3.0 to -1.9             light region

Two of the four masks are the light region, pixel for pixel at stride 4 (100 of 256 positions), and alternative 3 lacks
one of its positions; the mask of the lowest level is the whole photo.
"""
