#!/usr/bin/env python3
"""Fits the polynomials of src/backend/cpu/kernels/math.rs and prints them as Rust constants. Needs numpy.

Each is a least-squares fit in a Chebyshev basis, weighted so that the relative error is even over the interval.
"""

import math

import numpy as np
from numpy.polynomial import chebyshev, polynomial

erf = np.vectorize(math.erf)
erfc = np.vectorize(math.erfc)


def nodes(low, high, count=20000):
    t = np.cos(np.pi * (np.arange(count) + 0.5) / count)
    return (low + high) / 2 + (high - low) / 2 * t


def fit(x, y, weight, degree, low, high):
    t = (2 * x - low - high) / (high - low)
    c = chebyshev.chebfit(t, y, degree, w=weight)
    inner = chebyshev.cheb2poly(c)
    shift = np.array([-(low + high) / (high - low), 2 / (high - low)])
    result = np.zeros(1)
    for coefficient in inner[::-1]:
        result = polynomial.polyadd(polynomial.polymul(result, shift), [coefficient])
    return result[:degree + 1]


def show(name, comment, coefficients):
    body = ", ".join(f"{c:.9e}" for c in coefficients)
    print(f"/// {comment}\nconst {name}: [f32; {len(coefficients)}] = [{body}];")


def main():
    r = nodes(-0.3476, 0.3476)
    show("EXP", "(e^r - 1 - r) / r^2 on [-ln 2 / 2, ln 2 / 2].",
         fit(r, (np.expm1(r) - r) / r**2, r**2, 5, -0.3476, 0.3476))
    s = nodes(1e-4, 0.625**2)
    x = np.sqrt(s)
    show("TANH", "(tanh x - x) / x^3 over x^2, for |x| < 0.625.",
         fit(s, (np.tanh(x) - x) / x**3, x**2, 4, 0, 0.625**2))
    s = nodes(1e-6, 0.9**2)
    x = np.sqrt(s)
    show("ERF_SMALL", "erf(x) / x over x^2, for |x| < 0.9.", fit(s, erf(x) / x, np.ones_like(x), 6, 0, 0.9**2))
    x = nodes(0.9, 4.0)
    show("ERF_LARGE", "log2(1 - erf x) for 0.9 <= x <= 4.", fit(x, np.log2(erfc(x)), erfc(x), 7, 0.9, 4.0))
    r = nodes(-0.501, 0.501)
    show("EXP2", "2^r on [-1/2, 1/2].", fit(r, np.exp2(r), np.exp2(-r), 5, -0.501, 0.501))


if __name__ == "__main__":
    main()
