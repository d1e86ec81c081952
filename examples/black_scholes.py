"""Prices of a million options and their sensitivities, in one fused pass over memory each."""

import numpy as np

import tracejit as tj


def normal_cdf(x):
    return 0.5 * tj.math.erfc(x * -(0.5**0.5))


def black_scholes(spot, strike, years, rate, volatility):
    """The prices of a European call and put."""
    deviation = volatility * tj.sqrt(years)
    d1 = (tj.math.log(spot / strike) + (rate + 0.5 * volatility**2) * years) / deviation
    d2 = d1 - deviation
    discounted = strike * tj.exp(-rate * years)
    call = spot * normal_cdf(d1) - discounted * normal_cdf(d2)
    return call, call - spot + discounted


@tj.function
def delta(spot, strike, years, rate, volatility):
    """How the call's price moves with the spot price."""
    with tj.GradientTape() as tape:
        tape.watch(spot)
        call, _ = black_scholes(spot, strike, years, rate, volatility)
    return tape.gradient(call, spot)


def main(n=1_000_000):
    rng = np.random.default_rng(0)
    spot, strike = (tj.constant(rng.uniform(50, 150, n)) for _ in range(2))
    years = tj.constant(rng.uniform(0.1, 2.0, n))

    price = tj.function(black_scholes)
    call, put = price(spot, strike, years, 0.02, 0.3)
    print(f"mean call {tj.reduce_mean(call):.4f}, mean put {tj.reduce_mean(put):.4f}")
    print(f"mean delta {tj.reduce_mean(delta(spot, strike, years, 0.02, 0.3)):.4f}")
    one = [tj.constant(v, tj.float64) for v in (100.0, 100.0, 1.0)]
    print(f"at the money, one year: call {price(*one, 0.05, 0.2)[0]:.4f}, delta {delta(*one, 0.05, 0.2):.4f}")
    return float(price(*one, 0.05, 0.2)[0])


if __name__ == "__main__":
    main()
