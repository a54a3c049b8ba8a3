# Geometric anisotropy in the plane: a turn and a stretch of the first two columns before an isotropic kernel. C does
# the same with scaled points (r_turn in src/r/glue.c).

check_anisotropy <- function(anisotropy, arg = "anisotropy") {
  if (is.null(anisotropy)) return(NULL)
  wanted <- "NULL or c(angle = , ratio = ), an angle in degrees and a ratio above 0 and up to 1"
  names <- names(anisotropy)
  sound <- is.numeric(anisotropy) && !is.object(anisotropy) && length(anisotropy) == 2 && all(is.finite(anisotropy)) &&
    (is.null(names) || setequal(names, c("angle", "ratio")))
  if (!sound) refuse(arg, wanted, describe(anisotropy))
  own <- if (is.null(names)) c(angle = anisotropy[[1]], ratio = anisotropy[[2]]) else anisotropy[c("angle", "ratio")]
  if (own[["ratio"]] <= 0 || own[["ratio"]] > 1) refuse(arg, wanted, paste("a ratio of", own[["ratio"]]))
  c(angle = own[["angle"]] %% 180, ratio = as.double(own[["ratio"]]))
}

# The two columns have one lengthscale, that along the angle.
check_plane <- function(kernel, columns = NULL, arg = "kernel") {
  if (is.null(kernel$anisotropy)) return(kernel)
  if (!is.null(columns) && columns < 2) refuse(arg, "without anisotropy for inputs of one column", "with it")
  scales <- kernel$lengthscale
  if (length(scales) > 1 && scales[1] != scales[2]) {
    refuse(arg, "of equal lengthscales in the first two columns, where it has an anisotropy",
           paste("of", format(scales[1]), "and", format(scales[2])))
  }
  kernel
}

# Coordinates along the angle and across it, the latter divided by the ratio: rows of the map for the first two columns.
plane_map <- function(anisotropy) {
  angle <- anisotropy[["angle"]] * pi / 180
  rbind(along = c(sin(angle), cos(angle)), across = c(cos(angle), -sin(angle)) / anisotropy[["ratio"]])
}

# Inputs in which an anisotropic kernel is isotropic, in the same unit; the names of the columns stay.
isotropic <- function(x, kernel, back = FALSE) {
  if (is.null(kernel$anisotropy) || !nrow(x)) return(x)
  map <- plane_map(kernel$anisotropy)
  x[, 1:2] <- x[, 1:2, drop = FALSE] %*% t(if (back) solve(map) else map)
  x
}

in_lengthscales <- function(x, kernel) sweep(isotropic(x, kernel), 2, kernel$lengthscale, `/`)

# ---- derivatives ----

# In units of the lengthscales, along and across, a distance in the plane is also that of three coordinates: those in
# three directions 60 degrees apart, times sqrt(2 / 3). Derivatives to a lengthscale for each of the three say how the
# likelihood changes with lengthscale, angle and ratio together, and C has derivatives to lengthscales. This is the
# process `gp` with three columns in place of the two.
plane_directions <- rbind(cos(pi * 0:2 / 3), sin(pi * 0:2 / 3))

in_plane_directions <- function(gp) {
  kernel <- gp$kernel
  spread <- function(x) {
    turned <- isotropic(x, kernel)
    cbind(turned[, 1:2, drop = FALSE] %*% plane_directions * sqrt(2 / 3), turned[, -(1:2), drop = FALSE])
  }
  scales <- rep_len(kernel$lengthscale, ncol(gp$x))
  centre <- attr(gp$x, "centre") # of some of the points of a process: that of all
  gp$x <- structure(unname(spread(gp$x)), centre = if (!is.null(centre)) drop(spread(rbind(centre))))
  gp$inducing <- unname(spread(gp$inducing))
  gp$kernel$lengthscale <- scales[c(1, 1, 1, seq_along(scales)[-(1:2)])]
  gp$kernel["anisotropy"] <- list(NULL)
  gp
}

# The names of derivatives to its lengthscales.
plane_labels <- function(labels) {
  columns <- grep("^lengthscale", labels)
  labels[columns] <- c(paste0("plane", 1:3), paste0("lengthscale", 2 + seq_along(labels)))[seq_along(columns)]
  labels
}

# How the logarithms of the three lengthscales change, one row each, with the logarithms of the lengthscales along and
# across and with the product 2 u1 u2 in the squared distance. A change B of the squared distance u'Bu, u along and
# across in units of the lengthscales, is that of lengthscales with sum_k (2 / 3) q_k e_k e_k' = B, log l_k changing by
# -q_k / 2. An angle in radians changes 2 u1 u2 by ratio - 1 / ratio.
plane_slopes <- local({
  e <- plane_directions
  design <- rbind(e[1, ]^2, e[2, ]^2, e[1, ] * e[2, ]) * 2 / 3
  # B by its elements along-along, across-across and along-across
  change <- rbind(along = c(-2, 0, 0), across = c(0, -2, 0), shear = c(0, 0, 1))
  t(-solve(design, t(change)) / 2)
})

# The same for lengthscale, ratio (by their logarithms) and angle in degrees.
plane_gradient <- function(anisotropy) {
  ratio <- anisotropy[["ratio"]]
  along <- plane_slopes["along", ]
  across <- plane_slopes["across", ]
  rbind(lengthscale = along + across, angle = (ratio - 1 / ratio) * plane_slopes["shear", ] * pi / 180, ratio = across)
}
