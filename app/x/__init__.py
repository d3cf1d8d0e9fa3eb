"""What XInteractor leans on: end-points, limits, prices, errors, the wire, windows and budget, capabilities."""
