"""What is kept between runs: measurement records today."""
