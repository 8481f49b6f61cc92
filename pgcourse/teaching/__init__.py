"""What the book shows and asks: exercises, sliders, plots and videos."""
