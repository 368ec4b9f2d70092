"""What a network is and looks at: parameters, multiply-adds, Grad-CAM."""
