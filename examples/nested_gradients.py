"""A falling apple: speed and acceleration as first and second gradients of its position."""

import tracejit as tj


def position(time):
    return 4.9 * time**2


def speed_and_acceleration(time):
    with tj.GradientTape() as outer:
        outer.watch(time)
        with tj.GradientTape() as inner:
            inner.watch(time)
            height = position(time)
        speed = inner.gradient(height, time)
    return speed, outer.gradient(speed, time)


def main():
    traced = tj.function(speed_and_acceleration)
    for seconds in (0.0, 1.0, 2.0):
        time = tj.constant(seconds)
        speed, acceleration = traced(time)
        print(f"after {seconds:.0f} s: {speed:.1f} m/s, {acceleration:.1f} m/s²")
    print(traced.graph(time, stage="optimized"))
    return float(acceleration)


if __name__ == "__main__":
    main()
