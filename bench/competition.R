# A published competition: the simulated case of Heaton et al. (2019), JABES 24(3), 398-425.
#
#   Rscript bench/competition.R [AllSimulatedTemps.RData] [threads] [kernel]
#
# 105,569 pixels observed, 44,431 held out behind clouds. Predictions of the held-out temperatures with what a user would type,
# by the defaults of vif_fit() and predict(). The data are in the public repository of the article; the best figures of its
# twelve methods, not all of one method, are MAE 0.61, RMSE 0.83, CRPS 0.43, interval score 3.64 and coverage 0.93 to 0.96.

source("bench/problems.R")

load(given(1, "AllSimulatedTemps.RData"))
options(vecchiann.threads = as.integer(given(2, 2)))
kernel <- given(3, NA)

all <- all.sim.data
held <- is.na(all$MaskTemp) & !is.na(all$TrueTemp)
fitting <- seconds(fit <- if (is.na(kernel)) {
  vif_fit(MaskTemp ~ 1, coords = ~ Lon + Lat, data = all)
} else {
  vif_fit(MaskTemp ~ 1, coords = ~ Lon + Lat, data = all, kernel = gp_kernel(kernel))
})
predicting <- seconds(p <- predict(fit, all[held, ], interval = "prediction"))
print(fit)
print(fit$history, digits = 6)

truth <- all$TrueTemp[held]
z <- (truth - p$fit) / p$se.obs
low <- p$lwr
high <- p$upr
scores <- c(
  MAE = mean(abs(truth - p$fit)), RMSE = sqrt(mean((truth - p$fit)^2)),
  CRPS = mean(p$se.obs * (z * (2 * pnorm(z) - 1) + 2 * dnorm(z) - 1 / sqrt(pi))),
  "interval score" = mean(high - low + 40 * (pmax(low - truth, 0) + pmax(truth - high, 0))),
  coverage = mean(truth >= low & truth <= high)
)
heading("", names(scores), "fit s", "predict s")
row("vecchiann", sprintf("%.3f", scores), sprintf("%.1f", c(fitting, predicting)))
