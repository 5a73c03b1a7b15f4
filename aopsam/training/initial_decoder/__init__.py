"""Initial weights with which `tiny`'s mask decoder answers clicks and boxes before any training.

`program.py` lists the five steps, `layout.py` the channels, `reading.py` has steps 1, 2 and 4, `drawing.py` steps 3 and
5. Below, the untrained model of `build_sam(SamRecipe())` (seed 0) answers one click; it computed all the numbers.

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
   cells: upper left 0.66 and 0.33, lower right 0.50 and 0.49, lower left 0.34 at most. The MLP's gates then add
   1.2 x the descriptor of the upper right quadrant (both gates open: 52 and 33), 0.16 x each of upper left and lower
   right (one gate just open: 1.5) and nothing of lower left (shut: -49). The sum, in READ_CHANNELS, has a cosine of
   0.996 with the descriptor under the click, (-0.05, 0.24, -0.63, -0.02, 0.32, 0.05, 0.33, 0.45, -0.22, -0.13, -0.14,
   -0.19).
3. Every image cell gets its nearness to the click. In a window this small all are near: NEAR_CHANNEL is 0.35 to 0.38.
   (With the same click in a whole frame it falls along the row from 0.40 at the click to 0.13 at x = 200 and 0.02 at
   x = 264.)
4. Boxes only: for a click the gate of the descriptor inside a box stays shut.
5. The cosine of the descriptor that was read with the descriptor of each 4 x 4 px position is 1.00 in the light region
   and 0.56 to 0.59 in the dark one. A logit is about 8 x (cosine - level), the price for distance being almost 0 here:

    mask               level    light: 8 x (1 - level), computed   dark: 8 x (0.58 - level), computed   logit > 0
    single             0.75          2.0   1.5 to 2.3                   -1.4   -2.2 to -1.4             light region
    alternative 1      0.375         5.0   4.6 to 5.3                    1.6    1.0 to  1.7             whole photo
    alternative 2      0.75          2.0   1.5 to 2.1                   -1.4   -2.1 to -1.5             light region
    alternative 3      0.94          0.5   0.1 to 0.6                   -2.9   -3.5 to -3.0             light region

Three of the four masks are the light region, pixel for pixel at stride 4 (100 of 256 positions); the one of the lowest
level is the whole photo.
"""
